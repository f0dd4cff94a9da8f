// SPDX-License-Identifier: Apache-2.0
#include "tests/support/fake_agent.h"

#include <poll.h>
#include <sys/eventfd.h>

#include <stdexcept>
#include <utility>

namespace procguard::test {
namespace {

sys::SeqPacket listen_at(const std::string& path) {
  auto listener = sys::SeqPacket::listen(path);
  if (!listener) {
    throw std::runtime_error(listener.error().message());
  }
  return std::move(listener).value();
}

}  // namespace

FakeAgent::FakeAgent(Answer answer)
    : answer_(std::move(answer)),
      stop_(::eventfd(0, EFD_CLOEXEC)),
      listener_(listen_at(socket())),
      thread_([this] { serve(); }) {}

FakeAgent::~FakeAgent() {
  ::eventfd_write(stop_.get(), 1);
  thread_.join();
}

std::vector<FakeAgent::Asked> FakeAgent::take_asked() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return std::move(asked_);
}

bool FakeAgent::wait_readable(int fd) const {
  pollfd fds[] = {{.fd = fd, .events = POLLIN, .revents = 0},
                  {.fd = stop_.get(), .events = POLLIN, .revents = 0}};
  while (::poll(fds, 2, -1) < 0) {
  }
  return fds[1].revents == 0;
}

void FakeAgent::serve() {
  std::vector<std::thread> talks;
  while (wait_readable(listener_.fd())) {
    auto connection = listener_.accept();
    if (connection && connection.value()) {
      talks.emplace_back([this, one = std::move(*connection.value())] { talk(one); });
    }
  }
  for (std::thread& each : talks) {
    each.join();
  }
}

void FakeAgent::talk(const sys::SeqPacket& connection) {
  proto::Bytes buffer(proto::kMaxRecord);
  while (wait_readable(connection.fd())) {
    auto received = connection.receive(buffer, proto::kMaxFds);
    const auto message =
        received ? proto::decode(std::span(buffer).first(received->bytes)) : std::nullopt;
    if (!message) {
      return;
    }
    Asked asked{.header = message->header,
                .bodies = {message->bodies.begin(), message->bodies.end()},
                .fds = std::move(received->fds)};
    std::vector<proto::Bytes> records;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      records = answer_(asked);
      asked_.push_back(std::move(asked));
    }
    for (const proto::Bytes& record : records) {
      static_cast<void>(connection.send(record));
    }
    if (records.empty()) {
      return;
    }
  }
}

proto::Bytes refusal_of(const FakeAgent::Asked& asked, proto::Status status,
                        const std::string& text) {
  proto::ErrorBody error;
  error.status = static_cast<std::uint32_t>(status);
  proto::put_text(error.text, text);
  return answer_to<proto::ErrorBody>(asked, {error}, 0, proto::Op::kError);
}

}  // namespace procguard::test
