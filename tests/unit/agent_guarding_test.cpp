// SPDX-License-Identifier: Apache-2.0
// A step that no event tells of: who took it has died before it could, and the guard's state has
// it.
#include "cli/agent_guarding.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>

#include "sys/monotonic_clock.h"
#include "sys/pidfd.h"
#include "tests/support/fake_agent.h"
#include "tests/support/rows.h"

namespace procguard::cli {
namespace {

using test::FakeAgent;
using Records = std::vector<proto::Bytes>;

constexpr std::uint64_t kId = 12;

class AgentGuarding : public testing::Test {
 protected:
  AgentGuarding() {
    options_.guard.scope = PG_SCOPE_TREE;
    guard_ = test::row_of(kId).guard;
    guard_.pid = static_cast<__u32>(::getpid());
  }

  Records answer(const FakeAgent::Asked& asked) const {
    switch (asked.op()) {
      case proto::Op::kStatus:
        return {test::answer_to<proto::StatusBody>(asked, {{}})};
      case proto::Op::kAttach:
        return {test::answer_to<proto::ArmedBody>(
            asked, {{.id = kId, .target_start_ns = guard_.target_start_ns, .pid = guard_.pid}})};
      case proto::Op::kShow: {
        proto::ShowBody shown{};
        shown.row = test::row_of(kId);
        shown.row.guard = guard_;
        return {test::answer_to<proto::ShowBody>(asked, {shown}),
                test::answer_to<proto::ThreadBody>(asked, {}, proto::kEnd, proto::Op::kThreads)};
      }
      case proto::Op::kEvents:
        return {test::answer_to<proto::EventBody>(asked, {})};
      default:
        return {test::answer_to<proto::GuardBody>(asked, {{guard_}})};
    }
  }
  // What the recorder has made of it when the command has ended.
  void end_command() {
    FakeAgent agent([this](const FakeAgent::Asked& asked) { return answer(asked); });
    Messages messages(silent_.get());
    Departures departures;
    Recorder recorder(options_, messages, clock_, departures, record_);
    recorder.answers({.levels = [] { return Result<engine::Levels>(engine::Levels{}); },
                      .usage = [] { return Result<engine::Usage>(engine::Usage{}); }});
    auto guarding = cli::AgentGuarding::connect(agent.socket(),
                                                {options_, messages, clock_, recorder, departures});
    ASSERT_TRUE(guarding.ok()) << guarding.error().message();
    auto pidfd = sys::open_pidfd(::getpid());
    ASSERT_TRUE(pidfd.ok());
    const auto armed =
        guarding.value()->arm({.pid = ::getpid(), .pidfd = pidfd->get(), .cgroup = nullptr});
    ASSERT_TRUE(armed.ok()) << armed.error().message();
    guarding.value()->command_ended();
  }

  RunOptions options_;
  RunRecord record_;
  pg_guard guard_{};
  sys::MonotonicClock clock_;
  sys::Fd silent_{::open("/dev/null", O_WRONLY | O_CLOEXEC)};
};

TEST_F(AgentGuarding, WithoutAStepNothingTripped) {
  end_command();
  EXPECT_FALSE(record_.trip.has_value());
  EXPECT_TRUE(record_.steps.empty());
}

TEST_F(AgentGuarding, TheFirstStepIsTheTrip) {
  guard_.limit[PG_TIMEOUT].tripped_ns = guard_.step_at_ns = test::kRowNow;
  guard_.step_resource = PG_TIMEOUT;
  guard_.step_index = 0;
  guard_.step_result = PG_RESULT_SENT;
  guard_.step_by = PG_BY_CONTROLLER;
  end_command();
  ASSERT_TRUE(record_.trip.has_value());
  EXPECT_EQ(record_.trip->event.resource, PG_TIMEOUT);
  EXPECT_EQ(record_.trip->event.at_ns, test::kRowNow);
  EXPECT_EQ(record_.ending.tripped, PG_TIMEOUT);
  EXPECT_EQ(record_.steps.size(), 1U);
}

TEST_F(AgentGuarding, ALaterStepHadATripBeforeIt) {
  guard_.limit[PG_TIMEOUT].tripped_ns = test::kRowNow - core::kSecond;
  guard_.step_at_ns = test::kRowNow;
  guard_.step_resource = PG_TIMEOUT;
  guard_.step_index = guard_.steps - 1;
  guard_.step_result = PG_RESULT_SENT;
  guard_.step_by = PG_BY_CONTROLLER;
  end_command();
  ASSERT_TRUE(record_.trip.has_value());
  EXPECT_EQ(record_.trip->event.at_ns, test::kRowNow - core::kSecond);
  ASSERT_EQ(record_.steps.size(), 2U);
  EXPECT_EQ(record_.steps[1].event.signal, static_cast<__u32>(SIGKILL));
  EXPECT_TRUE(record_.ending.killed);
}

}  // namespace
}  // namespace procguard::cli
