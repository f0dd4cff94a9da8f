// SPDX-License-Identifier: Apache-2.0
#include "client/agent_source.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

namespace procguard::client {
namespace {

constexpr engine::WatchId kSelf = 1;
// An agent that is alive answers in microseconds; one that has no CPU for this long is no help.
constexpr core::Ns kAnswerWithin = core::kSecond;
// Between two questions about the same.
constexpr core::Ns kAskEvery = 10 * core::kMillisecond;
// Records taken at a time: whoever sends without end must not keep the monitor from its guards.
constexpr int kMostRecords = 16;
// The longest that is expected: an error with its text.
constexpr std::size_t kLongest = sizeof(proto::Header) + sizeof(proto::ErrorBody);

Error not_understood() {
  return Error("the agent's answer is not understood", EPROTO);
}

// The most that this process ever had.
std::uint64_t peak_rss_bytes() {
  rusage usage{};
  return ::getrusage(RUSAGE_SELF, &usage) == 0 ? static_cast<std::uint64_t>(usage.ru_maxrss) << 10U
                                               : 0;
}

Error unsupported(const char* what) {
  return Error(std::string("source agent: ") + what + " of a session", ENOTSUP);
}

Error refused(const proto::Message& reply) {
  const auto body = reply.one<proto::ErrorBody>();
  if (!body) {
    return not_understood();
  }
  const bool permission = static_cast<proto::Status>(body->status) == proto::Status::kNotPermitted;
  return Error("the agent refuses: " + proto::get_text(body->text), permission ? EACCES : EPROTO);
}

}  // namespace

Result<std::unique_ptr<AgentSource>> AgentSource::ask(const core::Clock& clock,
                                                      sys::SeqPacket socket, int page) {
  std::unique_ptr<AgentSource> source(new AgentSource(clock, std::move(socket)));
  proto::Writer request(proto::Op::kSession, source->requests_ + 1);
  request.add(proto::SessionBody{});
  if (auto sent = source->send(request, {&page, 1}); !sent) {
    return sent.error();
  }
  return source;
}

Result<void> AgentSource::send(proto::Writer& request, std::span<const int> fds) {
  if (lost_) {
    return *lost_;
  }
  if (auto sent = socket_.send(request.bytes(), fds); !sent) {
    lose(sent.error().in("asking the agent"));
    return *lost_;
  }
  ++requests_;
  asked_ns_ = clock_.now();
  if (!awaited_) {  // else the agent has had less time for the ones before
    answer_due_ns_ = asked_ns_ + kAnswerWithin;
  }
  awaited_ = true;
  return {};
}

Result<engine::WatchId> AgentSource::watch(const engine::Target& self) {
  if (self.scope != PG_SCOPE_PROCESS || self.pid != ::getpid()) {
    return unsupported("another target than the process");
  }
  return kSelf;
}

Result<void> AgentSource::set_thresholds(engine::WatchId, const engine::Thresholds& thresholds) {
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    if (const std::uint64_t bytes = thresholds.memory[i].bytes; bytes != slots_[i].bytes) {
      slots_[i] = {.bytes = bytes, .set_ns = clock_.now()};
    }
  }
  return ask_thresholds();
}

Result<void> AgentSource::ask_thresholds() {
  proto::ThresholdsBody body;
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    body.bytes[i] = slots_[i].bytes;
  }
  proto::Writer request(proto::Op::kThresholds, requests_ + 1);
  request.add(body);
  return send(request, {});
}

void AgentSource::ask_level() {
  const bool over = std::any_of(slots_.begin(), slots_.end(),
                                [](const Slot& slot) { return slot.over_since_ns != 0; });
  if (over && !lost_ && !awaited_ && clock_.now() >= asked_ns_ + kAskEvery) {
    static_cast<void>(ask_thresholds());
  }
}

Result<engine::Levels> AgentSource::levels(engine::WatchId) {
  engine::Levels levels;
  levels.memory_bytes = told_bytes_;
  levels.memory_plain_bytes = told_bytes_;
  levels.processes = 1;
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    levels.memory[i].limit = slots_[i].bytes;
    levels.memory[i].over_since_ns = slots_[i].over_since_ns;
    levels.memory[i].set_over_since_ns = slots_[i].set_over_since_ns;
    levels.memory[i].episodes = slots_[i].episodes;
  }
  return levels;
}

Result<std::vector<engine::Member>> AgentSource::members(engine::WatchId) {
  return unsupported("the members");
}

Result<sys::Fd> AgentSource::open_member(engine::WatchId, const engine::Member&) {
  return unsupported("a member");
}

Result<engine::Usage> AgentSource::usage(engine::WatchId) {
  return unsupported("the usage");
}

std::vector<engine::WatchId> AgentSource::drain() {
  std::array<std::byte, kLongest> buffer;
  int taken = 0;
  for (; taken < kMostRecords && !lost_; ++taken) {
    const auto received = socket_.receive(buffer, 0);
    if (!received && received.error().code() == EAGAIN) {
      break;
    }
    if (!received) {
      lose(received.error().in("the agent's answer"));
    } else if (received.value().bytes == 0) {
      lose(Error("the agent has closed the connection", ECONNRESET));
    } else if (received.value().truncated) {
      lose(not_understood());
    } else {
      take(std::span(buffer).first(received.value().bytes));
    }
  }
  // After what came: the two of us may have been stopped together.
  if (awaited_ && taken < kMostRecords && clock_.now() >= answer_due_ns_) {
    lose(Error("the agent does not answer", ETIMEDOUT));
  }
  return taken == 0 ? std::vector<engine::WatchId>() : std::vector{kSelf};
}

// In order: what comes before the answer to the last request is about thresholds before it.
void AgentSource::take(std::span<const std::byte> record) {
  const auto message = proto::decode(record);
  if (!message) {
    lose(not_understood());
    return;
  }
  const bool answer = awaited_ && message->header.request == requests_;
  if (message->op() == proto::Op::kError) {
    lose(refused(*message));
  } else if (!accepted_) {
    take_session(*message);
  } else if (message->op() != proto::Op::kLevel || !message->one<proto::LevelBody>()) {
    lose(not_understood());
  } else if (answer || (!awaited_ && message->header.request == 0)) {
    take_level(*message);
  }
  awaited_ = awaited_ && !answer;
}

void AgentSource::take_session(const proto::Message& reply) {
  if (reply.op() != proto::Op::kSession || reply.header.request != requests_ ||
      !reply.one<proto::SessionReply>()) {
    lose(not_understood());
    return;
  }
  accepted_ = true;
}

// All is believed as far as it can be true: a crossing is not before its threshold was asked for,
// and not after now; the level is no more than we ever had, and 0 is one that could not be read.
void AgentSource::take_level(const proto::Message& message) {
  const auto body = *message.one<proto::LevelBody>();
  const core::Ns now = clock_.now();
  if (body.memory_bytes != 0) {
    told_bytes_ = std::min<std::uint64_t>(body.memory_bytes, peak_rss_bytes());
  }
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    const auto believed = [&](core::Ns at) {
      return at == 0 ? 0 : std::clamp(at, slots_[i].set_ns, now);
    };
    const bool since_set = body.over_since_ns[i] == body.set_over_since_ns[i];
    slots_[i].over_since_ns = believed(body.over_since_ns[i]);
    slots_[i].set_over_since_ns = since_set ? slots_[i].over_since_ns : 0;
    slots_[i].episodes = body.episodes[i];
  }
}

core::Ns AgentSource::next_check(core::Ns now) {
  if (lost_) {
    return now;  // somebody has to do without it
  }
  return awaited_ ? answer_due_ns_ : core::kNever;
}

void AgentSource::lose(Error why) {
  if (!lost_) {
    lost_ = std::move(why);
  }
}

}  // namespace procguard::client
