// SPDX-License-Identifier: Apache-2.0
// A session's records, one by one: what is asked, what is believed of the answers, and when there
// is no session any more. Nothing waits, so there is no thread at the other end.
#include "client/agent_source.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <functional>
#include <memory>
#include <vector>

#include "tests/support/fake_clock.h"

namespace procguard::test {
namespace {

using core::kMillisecond;
using core::kNever;
using core::kSecond;

class AgentSourceTest : public ::testing::Test {
 protected:
  AgentSourceTest() {
    int ends[2] = {-1, -1};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
    agent_ = std::make_unique<sys::SeqPacket>(sys::Fd(ends[0]));
    auto made = client::AgentSource::ask(clock_, sys::SeqPacket(sys::Fd(ends[1])), STDERR_FILENO);
    EXPECT_TRUE(made);
    source_ = std::move(made).value();
  }

  // The program's next record; op kNone: there is none.
  proto::Message request(std::size_t fds = 0) {
    auto received = agent_->receive(buffer_, 4);
    if (!received || received->bytes == 0) {
      return {};
    }
    EXPECT_EQ(received->fds.size(), fds);
    const auto message = proto::decode(std::span(buffer_).first(received->bytes));
    EXPECT_TRUE(message.has_value());
    return message.value_or(proto::Message{});
  }
  template <typename Body>
  void say(proto::Op op, std::uint32_t number, const Body& body) {
    proto::Writer record(op, number);
    record.add(body);
    ASSERT_TRUE(agent_->send(record.bytes()));
  }
  void accept() {
    say(proto::Op::kSession, request(1).header.request, proto::SessionReply{.id = 1, .pid = 2});
    source_->drain();
    ASSERT_TRUE(source_->accepted());
  }
  // The number of the request.
  std::uint32_t ask(std::uint64_t first, std::uint64_t second) {
    engine::Thresholds thresholds;
    thresholds.memory[0].bytes = first;
    thresholds.memory[1].bytes = second;
    EXPECT_TRUE(source_->set_thresholds(1, thresholds));
    const proto::Message asked = request();
    EXPECT_EQ(asked.op(), proto::Op::kThresholds);
    const auto body = asked.one<proto::ThresholdsBody>().value_or(proto::ThresholdsBody{});
    EXPECT_EQ(body.bytes[0], first);
    EXPECT_EQ(body.bytes[1], second);
    return asked.header.request;
  }
  static proto::LevelBody level(core::Ns first, core::Ns first_set = 0, core::Ns second = 0,
                                core::Ns second_set = 0) {
    proto::LevelBody body;
    body.over_since_ns[0] = first;
    body.over_since_ns[1] = second;
    body.set_over_since_ns[0] = first_set;
    body.set_over_since_ns[1] = second_set;
    return body;
  }
  void tell(std::uint32_t number, const proto::LevelBody& body) {
    say(proto::Op::kLevel, number, body);
    EXPECT_FALSE(source_->drain().empty());
  }
  // When the level rose over the threshold; 0 also where it was over when it was put in force.
  core::Ns crossed(int index) {
    const auto levels = source_->levels(1);
    EXPECT_TRUE(levels);
    const engine::ThresholdState& state = levels.value().memory[index];
    return state.over_since_ns == state.set_over_since_ns ? 0 : state.over_since_ns;
  }
  int lost() const { return source_->lost() ? source_->lost()->code() : 0; }

  FakeClock clock_;
  std::unique_ptr<sys::SeqPacket> agent_;
  std::unique_ptr<client::AgentSource> source_;

 private:
  std::array<std::byte, 1024> buffer_{};
};

TEST_F(AgentSourceTest, IsAcceptedByTheAnswer) {
  EXPECT_EQ(source_->next_check(clock_.now()), clock_.now() + kSecond);
  EXPECT_TRUE(source_->drain().empty());
  EXPECT_FALSE(source_->accepted());
  accept();
  EXPECT_EQ(source_->next_check(clock_.now()), kNever);
  EXPECT_STREQ(source_->name(), "agent");
}

TEST_F(AgentSourceTest, WatchesItselfOnly) {
  accept();
  engine::Target target;
  target.pid = ::getpid();
  EXPECT_TRUE(source_->watch(target));
  target.pid = ::getppid();
  EXPECT_FALSE(source_->watch(target));
}

TEST_F(AgentSourceTest, ALevelIsBelievedAsFarAsItCanBeTrue) {
  accept();
  EXPECT_EQ(source_->levels(1)->memory_bytes, 0U);  // none was told
  proto::LevelBody body = level(0);
  body.memory_bytes = 1 << 19;
  const std::uint32_t asked = ask(1 << 20, 0);
  tell(asked, body);
  EXPECT_EQ(source_->levels(1)->memory_bytes, 1U << 19U);
  body.memory_bytes = 0;  // it could not be read
  tell(0, body);
  EXPECT_EQ(source_->levels(1)->memory_bytes, 1U << 19U);
  body.memory_bytes = ~0ULL;
  tell(0, body);
  EXPECT_LT(source_->levels(1)->memory_bytes, 1ULL << 40U);
  EXPECT_GT(source_->levels(1)->memory_bytes, 1U << 19U);
}

TEST_F(AgentSourceTest, TheLevelIsAskedForWhileItIsOver) {
  accept();
  tell(ask(100, 0), level(0));
  clock_.advance(kSecond);
  source_->ask_level();
  EXPECT_EQ(request().op(), proto::Op::kNone);
  tell(0, level(clock_.now()));
  const core::Ns since = clock_.now();
  source_->ask_level();
  source_->ask_level();  // is awaited
  const proto::Message asked = request();
  EXPECT_EQ(asked.op(), proto::Op::kThresholds);
  EXPECT_EQ(asked.one<proto::ThresholdsBody>()->bytes[0], 100U);
  EXPECT_EQ(request().op(), proto::Op::kNone);
  EXPECT_EQ(crossed(0), since);
  tell(asked.header.request, level(since));
  source_->ask_level();  // just now
  EXPECT_EQ(request().op(), proto::Op::kNone);
  clock_.advance(10 * kMillisecond);
  source_->ask_level();
  tell(request().header.request, level(0));
  EXPECT_EQ(crossed(0), 0U);
}

TEST_F(AgentSourceTest, ACrossingHasItsTime) {
  accept();
  tell(ask(100, 0), level(0));
  const core::Ns begin = clock_.now();
  clock_.advance(50 * kMillisecond);
  tell(0, level(begin + 20 * kMillisecond));
  EXPECT_EQ(crossed(0), begin + 20 * kMillisecond);
  EXPECT_EQ(crossed(1), 0U);
  tell(0, level(0));
  EXPECT_EQ(crossed(0), 0U);
}

TEST_F(AgentSourceTest, OverWhenPutInForceIsNoCrossing) {
  accept();
  clock_.advance(kMillisecond);
  tell(ask(100, 0), level(clock_.now(), clock_.now()));
  EXPECT_EQ(crossed(0), 0U);
}

TEST_F(AgentSourceTest, ATimeIsBelievedAsFarAsItCanBeTrue) {
  accept();
  const core::Ns asked = clock_.now();
  tell(ask(100, 200), level(0));
  clock_.advance(kSecond);
  tell(0, level(kNever, 0, 1, 0));
  EXPECT_EQ(crossed(0), clock_.now());
  EXPECT_EQ(crossed(1), asked);
}

// What was on its way when other thresholds were asked for is about those before.
TEST_F(AgentSourceTest, WhatComesBeforeTheAnswerIsNotAboutIt) {
  accept();
  const std::uint32_t first = ask(100, 0);
  clock_.advance(kMillisecond);
  const std::uint32_t second = ask(300, 0);
  tell(first, level(clock_.now()));
  tell(0, level(clock_.now()));
  EXPECT_EQ(crossed(0), 0U);
  EXPECT_NE(source_->next_check(clock_.now()), kNever);
  clock_.advance(kMillisecond);
  tell(second, level(0));
  EXPECT_EQ(source_->next_check(clock_.now()), kNever);
  tell(0, level(clock_.now()));
  EXPECT_EQ(crossed(0), clock_.now());
}

TEST_F(AgentSourceTest, AThresholdThatStaysKeepsItsCrossing) {
  accept();
  tell(ask(100, 0), level(0));
  clock_.advance(kMillisecond);
  tell(0, level(clock_.now()));
  const core::Ns since = clock_.now();
  clock_.advance(kMillisecond);
  ask(100, 50);
  EXPECT_EQ(crossed(0), since);
  ask(101, 50);
  EXPECT_EQ(crossed(0), 0U);
}

TEST_F(AgentSourceTest, NoAnswerIsALoss) {
  accept();
  ask(100, 0);
  clock_.advance(600 * kMillisecond);
  ask(200, 0);  // gives it no more time
  EXPECT_EQ(source_->next_check(clock_.now()), clock_.now() + 400 * kMillisecond);
  clock_.advance(399 * kMillisecond);
  source_->drain();
  EXPECT_EQ(lost(), 0);
  clock_.advance(kMillisecond);
  source_->drain();
  EXPECT_EQ(lost(), ETIMEDOUT);
  EXPECT_EQ(source_->next_check(clock_.now()), clock_.now());
  EXPECT_FALSE(source_->set_thresholds(1, {}));
}

// The program itself was stopped: the answer is there.
TEST_F(AgentSourceTest, AnAnswerThatWasThereInTime) {
  accept();
  const std::uint32_t asked = ask(100, 0);
  clock_.advance(3600 * kSecond);
  tell(asked, level(0));
  EXPECT_EQ(lost(), 0);
}

TEST_F(AgentSourceTest, WhoeverDoesNotReadIsLost) {
  accept();
  engine::Thresholds thresholds;
  bool sent = true;
  for (std::uint64_t i = 1; sent && i < 100'000; ++i) {
    thresholds.memory[0].bytes = i;
    sent = source_->set_thresholds(1, thresholds).ok();
  }
  EXPECT_FALSE(sent);
  EXPECT_EQ(lost(), EAGAIN);
}

// A record that ends the session, before it was accepted or after it asked for thresholds.
struct Wrong {
  const char* name;
  bool accepted;
  int code;
  std::function<void(const sys::SeqPacket& agent, std::uint32_t request)> say;
};

template <typename Body>
auto record(proto::Op op, const Body& body, std::uint32_t more = 0) {
  return [op, body, more](const sys::SeqPacket& agent, std::uint32_t request) {
    proto::Writer writer(op, request + more);
    writer.add(body);
    ASSERT_TRUE(agent.send(writer.bytes()));
  };
}

auto raw(std::size_t bytes) {
  return [bytes](const sys::SeqPacket& agent, std::uint32_t) {
    ASSERT_TRUE(agent.send(std::vector<std::byte>(bytes, std::byte{0x7f})));
  };
}

proto::ErrorBody refusal(proto::Status status) {
  proto::ErrorBody body;
  body.status = static_cast<std::uint32_t>(status);
  std::fill(std::begin(body.text), std::end(body.text), 'x');  // no end
  return body;
}

class AgentSourceWrong : public AgentSourceTest, public ::testing::WithParamInterface<Wrong> {};

TEST_P(AgentSourceWrong, IsALoss) {
  if (GetParam().accepted) {
    accept();
    GetParam().say(*agent_, ask(100, 0));
  } else {
    GetParam().say(*agent_, request(1).header.request);
  }
  source_->drain();
  EXPECT_EQ(lost(), GetParam().code);
  EXPECT_FALSE(source_->lost()->message().empty());
  source_->drain();  // again: no more than that
  EXPECT_EQ(lost(), GetParam().code);
}

INSTANTIATE_TEST_SUITE_P(
    Each, AgentSourceWrong,
    ::testing::Values(
        Wrong{"Denied", false, EACCES,
              record(proto::Op::kError, refusal(proto::Status::kNotPermitted))},
        Wrong{"Busy", false, EPROTO, record(proto::Op::kError, refusal(proto::Status::kBusy))},
        Wrong{"LevelFirst", false, EPROTO, record(proto::Op::kLevel, proto::LevelBody{})},
        Wrong{"SessionOfAnother", false, EPROTO,
              record(proto::Op::kSession, proto::SessionReply{}, 1)},
        Wrong{"SessionShort", false, EPROTO, record(proto::Op::kSession, proto::SessionBody{})},
        Wrong{"SessionEmpty", false, ECONNRESET, raw(0)},
        Wrong{"SessionGarbage", false, EPROTO, raw(24)},
        Wrong{"Closed", false, ECONNRESET,
              [](const sys::SeqPacket& agent, std::uint32_t) { agent.shut_down(); }},
        Wrong{"SessionAgain", true, EPROTO, record(proto::Op::kSession, proto::SessionReply{})},
        Wrong{"LevelShort", true, EPROTO, record(proto::Op::kLevel, proto::SessionReply{})},
        Wrong{"LevelUnknownOp", true, EPROTO,
              record(static_cast<proto::Op>(999), proto::LevelBody{})},
        Wrong{"LevelError", true, EPROTO, record(proto::Op::kError, proto::SessionReply{})},
        Wrong{"LevelTooLong", true, EPROTO, raw(4096)}, Wrong{"LevelByte", true, EPROTO, raw(1)},
        Wrong{"LevelClosed", true, ECONNRESET,
              [](const sys::SeqPacket& agent, std::uint32_t) { agent.shut_down(); }}),
    [](const auto& row) { return std::string(row.param.name); });

// Whoever sends without end does not keep the monitor.
TEST_F(AgentSourceTest, TakesSoManyRecordsAtATime) {
  accept();
  tell(ask(100, 0), level(0));
  proto::Writer writer(proto::Op::kLevel, 0);
  writer.add(level(0));
  int sent = 0;
  while (sent < 100 && agent_->send(writer.bytes())) {
    ++sent;
  }
  ASSERT_GT(sent, 0);
  int drained = 0;
  while (!source_->drain().empty()) {
    ++drained;
  }
  EXPECT_GE(drained, sent / 16);
  EXPECT_EQ(lost(), 0);
}

}  // namespace
}  // namespace procguard::test
