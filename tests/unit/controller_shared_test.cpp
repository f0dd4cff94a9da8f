// SPDX-License-Identifier: Apache-2.0
// Many guards on one target: one watch, two thresholds, and each guard its own ladder.
#include <gtest/gtest.h>

#include "tests/support/controller_fixture.h"

namespace procguard::engine {
namespace {

using test::kMiB;

class ControllerShared : public test::ControllerFixture {
 protected:
  std::uint64_t guard_memory(std::uint64_t mib, const char* ladder, core::Ns grace_ms = 0,
                             std::uint32_t flags = 0) {
    core::GuardSpec made = spec(ladder);
    made.memory_bytes = mib * kMiB;
    made.grace_ns = grace_ms * core::kMillisecond;
    made.flags = flags;
    arm_and_start(made);
    return guard_;
  }
  void level(std::uint64_t mib) {
    source_.set_memory(watch_, mib * kMiB);
    controller_.on_source();
  }
  std::uint32_t steps_of(std::uint64_t guard) const {
    return controller_.find(guard)->limit[PG_MEMORY].next_step;
  }
};

TEST_F(ControllerShared, OneWatchForAll) {
  guard_memory(64, "INT:1s,KILL");
  const WatchId first = watch_;
  guard_memory(128, "INT:1s,KILL");
  EXPECT_EQ(watch_, first);
  EXPECT_EQ(controller_.watches(), 1U);
  controller_.release(guard_);
  EXPECT_FALSE(source_.at(first).released);
  controller_.release(1);
  EXPECT_TRUE(source_.at(first).released);
  EXPECT_EQ(controller_.watches(), 0U);
}

TEST_F(ControllerShared, AnotherOwnerHasAWatchOfItsOwn) {
  guard_memory(64, "INT:1s,KILL");
  Target other = target();
  other.owner_uid = 7;
  core::GuardSpec made = spec();
  made.memory_bytes = 64 * kMiB;
  arm(made, other);
  EXPECT_EQ(controller_.watches(), 2U);
}

TEST_F(ControllerShared, EachLimitTripsWhenItIsCrossed) {
  const std::uint64_t low = guard_memory(64, "INT:100s,KILL");
  const std::uint64_t middle = guard_memory(128, "TERM:100s,KILL");
  const std::uint64_t high = guard_memory(256, "HUP:100s,KILL");
  level(100);
  EXPECT_EQ(sent(), test::Journal{"42 INT"});
  level(200);
  EXPECT_EQ(sent(), (test::Journal{"42 INT", "42 TERM"}));
  level(300);
  EXPECT_EQ(sent(), (test::Journal{"42 INT", "42 TERM", "42 HUP"}));
  level(150);  // back under the highest
  EXPECT_EQ(steps_of(low), 1U);
  EXPECT_EQ(steps_of(middle), 1U);
  EXPECT_EQ(steps_of(high), 0U);
  level(10);  // under all: also those that were not in force
  EXPECT_EQ(steps_of(low), 0U);
  EXPECT_EQ(steps_of(middle), 0U);
  level(300);  // over all at once
  EXPECT_EQ(steps_of(low), 1U);
  EXPECT_EQ(steps_of(middle), 1U);
  EXPECT_EQ(steps_of(high), 1U);
}

// A limit that is over keeps its own time when it moves to another slot: its grace goes on.
TEST_F(ControllerShared, GraceIsNotBegunAnewByAnotherLimitsCrossing) {
  const std::uint64_t low = guard_memory(64, "INT:100s,KILL", 1000);
  guard_memory(128, "TERM:100s,KILL", 1000);
  guard_memory(256, "HUP:100s,KILL", 1000);
  level(100);
  run_for(600);
  level(200);
  level(300);
  run_for(399);
  EXPECT_EQ(steps_of(low), 0U);
  run_for(1);
  EXPECT_EQ(steps_of(low), 1U);
}

TEST_F(ControllerShared, TheKernelsStepIsThatOfWhoseLimitItWas) {
  guard_memory(64, "INT:100s,KILL");
  const std::uint64_t high = guard_memory(128, "TERM:100s,KILL");
  source_.set_memory(watch_, 100 * kMiB);
  source_.kernel_acts(watch_, 0, kPid);
  controller_.on_source();
  EXPECT_EQ(controller_.find(1)->step_by, static_cast<unsigned>(PG_BY_KERNEL));
  EXPECT_EQ(steps_of(high), 0U);
}

TEST_F(ControllerShared, APausedGuardHasNothingInForce) {
  const std::uint64_t low = guard_memory(64, "INT:100s,KILL");
  guard_memory(128, "TERM:100s,KILL");
  controller_.pause(low);
  level(100);
  EXPECT_EQ(sent(), test::Journal{});
  controller_.resume(low);
  EXPECT_EQ(sent(), test::Journal{"42 INT"}) << "over already: a crossing";
}

TEST_F(ControllerShared, ALimitSetLowerIsInForceAtOnce) {
  const std::uint64_t guard = guard_memory(64, "INT:100s,KILL");
  level(50);
  ASSERT_TRUE(controller_.set_limit(guard, PG_MEMORY, 40 * kMiB).ok());
  EXPECT_EQ(sent(), test::Journal{"42 INT"});
  ASSERT_TRUE(controller_.set_limit(guard, PG_TIMEOUT, core::kSecond).ok());
  EXPECT_EQ(controller_.next_due(), controller_.find(guard)->armed_ns + core::kSecond);
  source_.thresholds_error = EIO;
  EXPECT_FALSE(controller_.set_limit(guard, PG_CPU, core::kSecond).ok()) << "it cannot be compared";
  EXPECT_EQ(controller_.find(guard)->limit[PG_CPU].phase, static_cast<unsigned>(PG_LIMIT_NONE));
}

TEST_F(ControllerShared, AdoptedGuardsGoOn) {
  const std::uint64_t low = guard_memory(64, "INT:1s,KILL");
  const std::uint64_t high = guard_memory(128, "TERM:100s,KILL");
  level(100);
  const pg_guard states[] = {*controller_.find(low), *controller_.find(high)};
  Controller next(source_, executor_, clock_, sink_);
  for (const pg_guard& state : states) {
    ASSERT_TRUE(next.adopt(state, target()).ok());
  }
  EXPECT_FALSE(next.adopt(states[0], target()).ok()) << "twice";
  journal_.clear();
  next.resume_all();
  EXPECT_EQ(sent(), test::Journal{}) << "nothing is repeated";
  clock_.advance(core::kSecond);
  next.on_time();
  EXPECT_EQ(sent(), test::Journal{"42 KILL"});
  EXPECT_EQ(next.find(high)->limit[PG_MEMORY].phase, static_cast<unsigned>(PG_LIMIT_WAITING));
}

TEST_F(ControllerShared, TheKernelsFailsafeStepIsTold) {
  const std::uint64_t plain = guard_memory(64, "INT:100s,KILL");
  const std::uint64_t failsafe = guard_memory(128, "TERM:100s,KILL", 0, PG_GUARD_FAILSAFE);
  EXPECT_EQ(source_.at(watch_).failsafe.memory_bytes, 128 * kMiB);
  Levels& levels = source_.at(watch_).levels;
  levels.memory_peak_bytes = 129 * kMiB;
  levels.failsafe_acted_ns = clock_.now();
  levels.failsafe_acted_pid = kPid;
  levels.failsafe_resource = PG_MEMORY;
  const pg_guard states[] = {*controller_.find(plain), *controller_.find(failsafe)};
  Controller next(source_, executor_, clock_, sink_);
  for (const pg_guard& state : states) {
    ASSERT_TRUE(next.adopt(state, target()).ok());
  }
  sink_.told.clear();
  next.resume_all();
  EXPECT_EQ(sink_.words(), "memory/1=sent");
  EXPECT_EQ(sink_.told[0].event.guard, failsafe);
}

}  // namespace
}  // namespace procguard::engine
