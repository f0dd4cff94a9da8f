// SPDX-License-Identifier: Apache-2.0
// The life of a guard in the controller: arm, start, limits, steps, events, end.
#include "engine/controller.h"

#include <cerrno>

#include "tests/support/controller_fixture.h"

namespace procguard::engine {
namespace {

using core::kMillisecond;
using core::kSecond;
using test::Journal;
using test::kMiB;

class ControllerTest : public test::ControllerFixture {};

TEST_F(ControllerTest, ArmWatchesAndFillsInTheState) {
  core::GuardSpec made = spec();
  made.timeout_ns = kSecond;
  Target whom = target();
  whom.owner_uid = 1000;
  arm(made, whom);
  EXPECT_EQ(state().pid, static_cast<unsigned>(kPid));
  EXPECT_EQ(state().scope, static_cast<unsigned>(PG_SCOPE_TREE));
  EXPECT_EQ(state().owner_uid, 1000u);
  EXPECT_EQ(state().target_start_ns, kPid * 100u);
  EXPECT_EQ(controller_.target(guard_)->pid, kPid);
  EXPECT_TRUE(source_.published.empty()) << "not in force yet";
  EXPECT_EQ(controller_.find(guard_ + 1), nullptr);
  EXPECT_EQ(controller_.target(guard_ + 1), nullptr);
}

TEST_F(ControllerTest, ArmFailsWithoutLimitOrWatch) {
  EXPECT_FALSE(controller_.arm(spec(), target()).ok());
  core::GuardSpec made = spec();
  made.timeout_ns = kSecond;
  source_.watch_error = ESRCH;
  auto armed = controller_.arm(made, target());
  ASSERT_FALSE(armed.ok());
  EXPECT_EQ(armed.error().code(), ESRCH);
}

TEST_F(ControllerTest, NothingTripsBeforeTheStart) {
  core::GuardSpec made = spec();
  made.timeout_ns = 100 * kMillisecond;
  made.memory_bytes = 64 * kMiB;
  arm(made, target());
  source_.set_memory(watch_, 100 * kMiB);
  controller_.on_source();
  run_for(10'000);
  EXPECT_EQ(sent(), Journal{});
  EXPECT_EQ(sink_.words(), "");
  ASSERT_TRUE(controller_.start(guard_, clock_.now()).ok());
  EXPECT_EQ(sent(), Journal{"42 INT"}) << "already over is a crossing";
  EXPECT_EQ(sink_.words(), "armed armed over memory/0=sent");
}

TEST_F(ControllerTest, StartFailsWhereItMust) {
  core::GuardSpec made = spec();
  made.memory_bytes = 64 * kMiB;
  arm(made, target());
  EXPECT_FALSE(controller_.start(guard_ + 1, 1).ok());
  source_.levels_error = EIO;
  EXPECT_EQ(controller_.start(guard_, 1).error().code(), EIO);
  source_.levels_error = 0;
  source_.thresholds_error = EPERM;
  EXPECT_EQ(controller_.start(guard_, 1).error().code(), EPERM);
  EXPECT_EQ(sink_.words(), "");
  source_.thresholds_error = 0;
  ASSERT_TRUE(controller_.start(guard_, 1).ok());
  EXPECT_FALSE(controller_.start(guard_, 1).ok()) << "it starts once";
  EXPECT_EQ(sink_.words(), "armed");
}

TEST_F(ControllerTest, ATimeoutNeedsNoLevels) {
  core::GuardSpec made = spec();
  made.timeout_ns = 100 * kMillisecond;
  arm(made, target());
  source_.levels_error = EIO;
  source_.thresholds_error = EIO;
  ASSERT_TRUE(controller_.start(guard_, clock_.now()).ok());
  run_for(100);
  EXPECT_EQ(sent(), Journal{"42 INT"});
}

TEST_F(ControllerTest, TheClockStartsAtTheExec) {
  core::GuardSpec made = spec();
  made.timeout_ns = 100 * kMillisecond;
  arm(made, target());
  const core::Ns exec = clock_.now();
  clock_.advance(30 * kMillisecond);
  ASSERT_TRUE(controller_.start(guard_, exec).ok());
  EXPECT_EQ(controller_.next_due(), exec + 100 * kMillisecond);
  arm(made, target());
  ASSERT_TRUE(controller_.start(guard_, 0).ok());
  EXPECT_EQ(state().armed_ns, clock_.now()) << "an unknown exec time is now";
  arm(made, target());
  ASSERT_TRUE(controller_.start(guard_, clock_.now() + kSecond).ok());
  EXPECT_EQ(state().armed_ns, clock_.now());
}

TEST_F(ControllerTest, TheLadderOfATimeout) {
  core::GuardSpec made = spec();
  made.timeout_ns = 300 * kMillisecond;
  arm_and_start(made, PG_SCOPE_PROCESS);
  run_for(299);
  EXPECT_EQ(sent(), Journal{});
  run_for(1);
  EXPECT_EQ(sent(), Journal{"42 INT"});
  run_for(2000);
  EXPECT_EQ(sent(), (Journal{"42 INT", "42 TERM", "42 KILL"}));
  EXPECT_EQ(controller_.next_due(), core::kNever);
  EXPECT_FALSE(controller_.busy()) << "one process needs no sweep";
  EXPECT_EQ(sink_.words(), "armed timeout/0=sent timeout/1=sent timeout/2=sent");
  const test::CaptureSink::Told& step = sink_.told[1];
  ASSERT_TRUE(step.has_outcome);
  EXPECT_EQ(step.outcome.reached, std::vector<pid_t>{kPid});
  EXPECT_EQ(step.event.due_ns, step.event.at_ns);
  EXPECT_FALSE(sink_.told[0].has_outcome);
  EXPECT_EQ(source_.traced.size(), sink_.told.size()) << "every event goes to the trace";
}

TEST_F(ControllerTest, ProgressPutsItOff) {
  core::GuardSpec made = spec();
  made.timeout_ns = 300 * kMillisecond;
  arm_and_start(made);
  run_for(200);
  controller_.progress(guard_);
  EXPECT_EQ(controller_.next_due(), clock_.now() + 300 * kMillisecond);
  run_for(299);
  EXPECT_EQ(sent(), Journal{});
  run_for(1);
  EXPECT_EQ(sent(), Journal{"42 INT"});
  controller_.progress(guard_ + 1);  // unknown: nothing
}

TEST_F(ControllerTest, ThresholdsStandInTheirSlots) {
  core::GuardSpec made = spec();
  made.cpu_ns = 2 * kSecond;
  made.memory_bytes = 64 * kMiB;
  made.memory_growth_bytes = 16 * kMiB;
  arm(made, target());
  source_.set_memory(watch_, 10 * kMiB);
  source_.set_cpu(watch_, kSecond);
  ASSERT_TRUE(controller_.start(guard_, clock_.now()).ok());
  const Thresholds& set = source_.at(watch_).thresholds;
  EXPECT_EQ(set.memory[0].bytes, 64 * kMiB);
  EXPECT_EQ(set.memory[1].bytes, 26 * kMiB) << "above the base";
  EXPECT_EQ(set.cpu_ns, 3 * kSecond) << "above the base";
  EXPECT_EQ(set.memory[0].kernel_signal, static_cast<unsigned>(SIGINT));
  EXPECT_EQ(set.memory[1].kernel_signal, static_cast<unsigned>(SIGINT));
  source_.set_memory(watch_, 27 * kMiB);
  controller_.on_source();
  EXPECT_EQ(sink_.words(), "armed armed armed over memory_growth/0=sent");
  EXPECT_EQ(sink_.told[3].event.observed, 17 * kMiB);
  source_.set_cpu(watch_, 3 * kSecond + kMillisecond);
  clock_.advance(100 * kMillisecond);
  controller_.on_source();
  EXPECT_EQ(sink_.told.back().event.resource, static_cast<unsigned>(PG_CPU));
  EXPECT_EQ(sink_.told.back().event.observed, 2 * kSecond + kMillisecond);
}

TEST_F(ControllerTest, HugeLimitsAreNeverReached) {
  core::GuardSpec made = spec();
  made.memory_growth_bytes = UINT64_MAX / 2;
  made.memory_bytes = UINT64_MAX;
  made.cpu_ns = UINT64_MAX;
  arm(made, target());
  source_.set_memory(watch_, 10 * kMiB);
  ASSERT_TRUE(controller_.start(guard_, clock_.now()).ok());
  const Thresholds& set = source_.at(watch_).thresholds;
  EXPECT_EQ(set.memory[0].bytes, static_cast<std::uint64_t>(INT64_MAX));
  EXPECT_EQ(set.memory[1].bytes, 0U) << "the same once";
  EXPECT_EQ(set.cpu_ns, static_cast<std::uint64_t>(INT64_MAX));
}

TEST_F(ControllerTest, GraceIsCountedFromTheCrossing) {
  core::GuardSpec made = spec();
  made.memory_bytes = 64 * kMiB;
  made.grace_ns = kSecond;
  arm_and_start(made);
  source_.set_memory(watch_, 65 * kMiB);
  clock_.advance(300 * kMillisecond);  // nobody read it
  controller_.on_source();
  EXPECT_EQ(controller_.next_due(), clock_.now() + 700 * kMillisecond);
  run_for(600);
  source_.set_memory(watch_, 63 * kMiB);  // a spike
  controller_.on_source();
  EXPECT_EQ(controller_.next_due(), core::kNever);
  source_.set_memory(watch_, 65 * kMiB);
  controller_.on_source();
  run_for(1000);
  EXPECT_EQ(sent(), Journal{"42 INT"});
  EXPECT_EQ(sink_.words(), "armed over back_under over memory/0=sent");
}

TEST_F(ControllerTest, LevelsAreReadBeforeAStepThatIsDue) {
  core::GuardSpec made = spec();
  made.memory_bytes = 64 * kMiB;
  made.grace_ns = kSecond;
  arm_and_start(made);
  source_.set_memory(watch_, 65 * kMiB);
  controller_.on_source();
  clock_.advance(kSecond);
  source_.set_memory(watch_, 63 * kMiB);  // the edge lies unread in the ring
  controller_.on_time();
  EXPECT_EQ(sent(), Journal{});
}

TEST_F(ControllerTest, LimitsThatAreThroughLeaveTheSource) {
  core::GuardSpec made = spec("INT");
  made.memory_bytes = 64 * kMiB;
  made.memory_growth_bytes = 128 * kMiB;
  arm_and_start(made);
  source_.set_memory(watch_, 65 * kMiB);
  controller_.on_source();
  EXPECT_EQ(source_.at(watch_).thresholds.memory[0].bytes, 0u) << "the kernel steps no more";
  EXPECT_EQ(source_.at(watch_).thresholds.memory[1].bytes, 128 * kMiB);
}

TEST_F(ControllerTest, MonitorModeRecordsAndSendsNothing) {
  core::GuardSpec made = spec();
  made.mode = PG_MODE_MONITOR;
  made.timeout_ns = 300 * kMillisecond;
  made.memory_bytes = 64 * kMiB;
  arm_and_start(made);
  EXPECT_EQ(source_.at(watch_).thresholds.memory[0].kernel_signal, 0u) << "nor does the kernel";
  run_for(10'000);
  EXPECT_EQ(sent(), Journal{});
  EXPECT_FALSE(source_.at(watch_).doomed);
  EXPECT_FALSE(controller_.busy());
  EXPECT_EQ(sink_.words(), "armed armed timeout/0=dry_run timeout/1=dry_run timeout/2=dry_run");
}

TEST_F(ControllerTest, TheIntentIsPublishedBeforeTheSignal) {
  core::GuardSpec made = spec();
  made.timeout_ns = 300 * kMillisecond;
  arm_and_start(made);
  source_.published.clear();
  bool intent_was_there = false;
  signaler_.on_signal = [&](pid_t, int signal) {
    intent_was_there =
        intent_was_there || (signal == SIGINT && !source_.published.empty() &&
                             source_.published.back().step_result == PG_RESULT_INTENT);
  };
  run_for(300);
  EXPECT_TRUE(intent_was_there);
  EXPECT_EQ(source_.published.back().step_result, static_cast<unsigned>(PG_RESULT_SENT));
}

TEST_F(ControllerTest, AnIgnoredStepBringsTheNextAtOnce) {
  facts_.namespace_init = true;
  core::GuardSpec made = spec();
  made.timeout_ns = 300 * kMillisecond;
  arm_and_start(made, PG_SCOPE_CGROUP);
  source_.add_member(watch_, 50);
  run_for(300);
  EXPECT_EQ(sink_.words(), "armed timeout/0=ignored timeout/1=ignored timeout/2=sent");
  EXPECT_EQ(sent(), (Journal{"50 INT", "50 TERM", "cgroup.kill /cg"})) << "the kernel dropped two";
}

TEST_F(ControllerTest, ManyGuardsKeepTheirOwnTime) {
  core::GuardSpec made = spec("TERM");
  for (pid_t pid : {50, 51, 52}) {
    made.timeout_ns = static_cast<core::Ns>(pid) * kMillisecond;
    Target whom = target(PG_SCOPE_PROCESS);
    whom.pid = pid;
    arm(made, whom);
    ASSERT_TRUE(controller_.start(guard_, clock_.now()).ok());
  }
  journal_.clear();
  controller_.release(2);
  run_for(60);
  EXPECT_EQ(sent(), (Journal{"50 TERM", "52 TERM"}));
}

TEST_F(ControllerTest, ASourceThatWantsToLookIsAsked) {
  core::GuardSpec made = spec();
  made.memory_bytes = 64 * kMiB;
  arm_and_start(made);
  source_.check_at = clock_.now() + 50 * kMillisecond;
  EXPECT_EQ(controller_.next_due(), source_.check_at);
  source_.set_memory(watch_, 65 * kMiB);
  clock_.advance(49 * kMillisecond);
  controller_.on_time();
  EXPECT_EQ(sent(), Journal{});
  clock_.advance(kMillisecond);
  controller_.on_time();
  EXPECT_EQ(sent(), Journal{"42 INT"});
}

TEST_F(ControllerTest, DegradedIsSaidOnce) {
  core::GuardSpec made = spec();
  made.memory_bytes = 64 * kMiB;
  arm_and_start(made);
  source_.at(watch_).levels.degraded = true;
  source_.set_memory(watch_, 65 * kMiB);
  controller_.on_source();
  source_.set_memory(watch_, 63 * kMiB);
  controller_.on_source();
  EXPECT_EQ(sink_.words(), "armed degraded over memory/0=sent back_under");
}

TEST_F(ControllerTest, UnreadableLevelsAreSaidOnceAndTimeGoesOn) {
  core::GuardSpec made = spec();
  made.memory_bytes = 64 * kMiB;
  made.timeout_ns = 300 * kMillisecond;
  arm_and_start(made);
  source_.levels_error = EIO;
  run_for(1300);
  EXPECT_EQ(sink_.words(), "armed armed degraded timeout/0=sent timeout/1=sent");
  EXPECT_EQ(sink_.told[2].event.error, static_cast<unsigned>(EIO));
}

}  // namespace
}  // namespace procguard::engine
