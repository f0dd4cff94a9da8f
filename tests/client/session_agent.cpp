// SPDX-License-Identifier: Apache-2.0
#include "tests/client/session_agent.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <vector>

#include "sys/monotonic_clock.h"
#include "tests/client/guarded.h"

namespace procguard::test {
namespace {

constexpr int kLookEveryMs = 2;
constexpr auto kMost = std::numeric_limits<std::uint64_t>::max();

core::Ns now() {
  return sys::MonotonicClock().now();
}

}  // namespace

SessionAgent::SessionAgent(std::string path, Manner manner)
    : path_(std::move(path)), manner_(manner) {
  auto listener = sys::SeqPacket::listen(path_);
  if (!listener) {
    throw std::runtime_error(listener.error().message());
  }
  listener_ = std::move(listener).value();
  thread_ = std::thread([this] { run(); });
}

SessionAgent::~SessionAgent() {
  stop_ = true;
  thread_.join();
  hang_up();
  if (const proto::Page* page = page_; page != nullptr) {
    ::munmap(const_cast<proto::Page*>(page), sizeof(*page));
  }
  ::unlink(path_.c_str());
}

void SessionAgent::run() {
  while (!stop_) {
    pollfd ready[2] = {{.fd = listener_->fd(), .events = POLLIN, .revents = 0},
                       {.fd = program_ ? program_->fd() : -1, .events = POLLIN, .revents = 0}};
    ::poll(ready, 2, kLookEveryMs);
    if (ready[0].revents != 0) {
      accept();
    }
    if (program_ && ready[1].revents != 0) {
      serve();
    }
    if (!program_) {
      continue;
    }
    if (tell_.exchange(false)) {
      for (Limit& limit : limits_) {
        limit.over_since_ns = now();
        limit.episodes++;
      }
      send_level(0);
    } else if (!blind_ && look()) {
      send_level(0);
    }
  }
}

// One program at a time: the last that came.
void SessionAgent::accept() {
  auto accepted = listener_->accept();
  if (accepted && accepted.value()) {
    hang_up();
    program_ = std::move(*accepted.value());
  }
}

void SessionAgent::serve() {
  std::array<std::byte, 1024> buffer;
  auto received = program_->receive(buffer, 4);
  const auto request = received && received->bytes != 0
                           ? proto::decode(std::span(buffer).first(received->bytes))
                           : std::nullopt;
  if (!request) {
    program_.reset();
  } else if (request->op() == proto::Op::kSession) {
    answer_session(*request, std::move(received->fds));
  } else if (request->op() == proto::Op::kThresholds) {
    answer_thresholds(*request);
  }
}

void SessionAgent::answer_session(const proto::Message& request, std::vector<sys::Fd> fds) {
  if (fds.size() != 1 || !request.one<proto::SessionBody>()) {
    bad_page_ = true;
    return;
  }
  map_page(fds[0]);
  const std::uint32_t number = request.header.request;
  proto::Writer reply(manner_ == Manner::kSessionWrongOp ? proto::Op::kStatus : proto::Op::kSession,
                      manner_ == Manner::kSessionOtherRequest ? number + 7
                      : manner_ == Manner::kSessionUnasked    ? 0
                                                              : number);
  reply.add(proto::SessionReply{.id = 1, .pid = static_cast<std::uint32_t>(::getpid())});
  switch (manner_) {
    case Manner::kRefuses: {
      proto::Writer refusal(proto::Op::kError, number);
      proto::ErrorBody body;
      body.status = static_cast<std::uint32_t>(proto::Status::kBusy);
      proto::put_text(body.text, "come again");
      refusal.add(body);
      send(refusal);
      return;
    }
    case Manner::kSaysNothing:
      return;
    case Manner::kHangsUp:
      hang_up();
      return;
    case Manner::kSessionTwoBodies:
      reply.add(proto::SessionReply{});
      break;
    default:
      break;
  }
  ++sessions_;
  send(reply);
}

void SessionAgent::map_page(const sys::Fd& memfd) {
  struct stat about {};
  constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
  void* mapped = ::mmap(nullptr, sizeof(proto::Page), PROT_READ, MAP_SHARED, memfd.get(), 0);
  if (::fstat(memfd.get(), &about) != 0 || about.st_size != sizeof(proto::Page) ||
      ::fcntl(memfd.get(), F_GET_SEALS) != kSeals || mapped == MAP_FAILED) {
    bad_page_ = true;
    return;
  }
  if (const auto* before = page_.exchange(static_cast<const proto::Page*>(mapped))) {
    ::munmap(const_cast<proto::Page*>(before), sizeof(*before));
  }
}

void SessionAgent::answer_thresholds(const proto::Message& request) {
  const auto body = request.one<proto::ThresholdsBody>();
  if (!body) {
    hang_up();
    return;
  }
  const std::uint64_t rss = rss_bytes();
  for (std::size_t i = 0; i < limits_.size(); ++i) {
    if (thresholds_[i].exchange(body->bytes[i]) != body->bytes[i]) {
      const bool over = body->bytes[i] != 0 && rss > body->bytes[i];
      limits_[i].over_since_ns = over ? now() : 0;
      limits_[i].set_over_since_ns = limits_[i].over_since_ns;
    }
  }
  const std::uint32_t number = request.header.request;
  proto::Writer wrong(proto::Op::kSession, number);
  proto::Writer error(proto::Op::kError, number);
  proto::Writer level(proto::Op::kLevel, number);
  switch (manner_) {
    case Manner::kLevelHangsUp:
      return hang_up();
    case Manner::kLevelSaysNothing:
      return;
    case Manner::kLevelWrongOp:
      wrong.add(proto::SessionReply{});
      return send(wrong);
    case Manner::kLevelIsError:
      error.add(proto::RefBody{});  // and not even that
      return send(error);
    case Manner::kLevelShortBody:
      level.add(proto::SessionReply{});
      return send(level);
    case Manner::kLevelTooLong:
      return send_raw(4096);
    case Manner::kLevelGarbage:
      return send_raw(80);
    case Manner::kLevelEmptyRecord:
      return send_raw(0);
    case Manner::kLevelWithFd:
      level.add(proto::LevelBody{});
      return send(level, {STDERR_FILENO});
    default:
      return send_level(number);
  }
}

bool SessionAgent::look() {
  const std::uint64_t rss = rss_bytes();
  bool crossed = false;
  for (std::size_t i = 0; i < limits_.size(); ++i) {
    const bool over = thresholds_[i] != 0 && rss > thresholds_[i];
    if (over != (limits_[i].over_since_ns != 0)) {
      limits_[i].over_since_ns = over ? now() : 0;
      limits_[i].episodes += over ? 1 : 0;
      crossed = true;
    }
  }
  return crossed;
}

void SessionAgent::send_level(std::uint32_t request) {
  proto::LevelBody body;
  body.memory_bytes = rss_bytes();
  for (std::size_t i = 0; i < limits_.size(); ++i) {
    body.over_since_ns[i] = limits_[i].over_since_ns;
    body.set_over_since_ns[i] = limits_[i].set_over_since_ns;
    body.episodes[i] = limits_[i].episodes;
    if (manner_ == Manner::kAbsurdNumbers) {
      body.over_since_ns[i] = kMost - i;
      body.set_over_since_ns[i] = 1;
      body.memory_bytes = kMost;
    }
  }
  proto::Writer record(proto::Op::kLevel, request);
  record.add(body);
  send(record);
}

// Whoever is not there any more is noticed when the connection is read.
void SessionAgent::send(proto::Writer& record, const std::vector<int>& fds) {
  if (program_) {
    static_cast<void>(program_->send(record.bytes(), fds));
  }
}

void SessionAgent::send_raw(std::size_t bytes) {
  const std::vector<std::byte> garbage(bytes, std::byte{0xa5});
  if (program_) {
    static_cast<void>(program_->send(garbage));
  }
}

// Also for those who have inherited our end.
void SessionAgent::hang_up() {
  if (program_) {
    program_->shut_down();
    program_.reset();
  }
}

}  // namespace procguard::test
