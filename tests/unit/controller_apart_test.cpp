// SPDX-License-Identifier: Apache-2.0
// Guards that share a watch have a slot of it, the kernel's signal and its times in common, and no
// more: each gets the crossings and the steps that are its own.
#include "tests/support/controller_fixture.h"

namespace procguard::test {
namespace {

using core::kSecond;

class ControllerApart : public ControllerFixture {
 protected:
  std::uint64_t guard_memory(std::uint64_t mib, const char* ladder, core::Ns grace = 0) {
    core::GuardSpec made = spec(ladder);
    made.memory_bytes = mib * kMiB;
    made.grace_ns = grace;
    arm_and_start(made);
    return guard_;
  }
  std::uint64_t guard_time() {
    core::GuardSpec made = spec();
    made.timeout_ns = 3600 * kSecond;
    arm_and_start(made);
    return guard_;
  }
  void level(std::uint64_t mib) {
    source_.set_memory(watch_, mib * kMiB);
    controller_.on_source();
  }
  void kernel_signals() {
    source_.set_memory(watch_, 100 * kMiB);
    source_.member(watch_, kPid).kernel_signalled[0] = true;
    source_.kernel_acts(watch_, 0, kPid);
    controller_.on_source();
  }
  std::uint32_t steps_of(std::uint64_t guard) const {
    return controller_.find(guard)->limit[PG_MEMORY].next_step;
  }
};

TEST_F(ControllerApart, TheKernelsStepIsNotThatOfAGuardWithAGrace) {
  const std::uint64_t patient = guard_memory(64, "INT:100s,KILL", 30 * kSecond);
  const std::uint64_t prompt = guard_memory(64, "INT:100s,KILL");
  kernel_signals();
  EXPECT_EQ(steps_of(prompt), 1U);
  EXPECT_EQ(controller_.find(prompt)->step_by, static_cast<unsigned>(PG_BY_KERNEL));
  EXPECT_EQ(steps_of(patient), 0U);
  run_for(30'000);
  EXPECT_EQ(steps_of(patient), 1U);
}

TEST_F(ControllerApart, NorThatOfOneThatIsPaused) {
  const std::uint64_t paused = guard_memory(64, "INT:100s,KILL");
  const std::uint64_t other = guard_memory(64, "INT:100s,KILL");
  controller_.pause(paused);
  kernel_signals();
  EXPECT_EQ(steps_of(paused), 0U);
  EXPECT_EQ(steps_of(other), 1U);
}

TEST_F(ControllerApart, WhatTheKernelSentForAnotherGuardIsNotItsOwnStep) {
  guard_memory(64, "INT:100s,KILL");
  guard_memory(64, "TERM", kSecond);
  kernel_signals();
  journal_.clear();
  run_for(1000);
  EXPECT_EQ(sent(), Journal{"42 TERM"});
}

TEST_F(ControllerApart, NorWhatItSentBeforeTheGuardWasThere) {
  guard_memory(64, "INT:100s,KILL");
  kernel_signals();
  clock_.advance(kSecond);
  core::GuardSpec late = spec("INT:100s,KILL");
  late.memory_bytes = 64 * kMiB;
  arm(late, target());
  ASSERT_TRUE(controller_.start(guard_, clock_.now()).ok());
  EXPECT_EQ(sent(), Journal{"42 INT"});
}

TEST_F(ControllerApart, AGraceDoesNotBeginBeforeTheGuard) {
  guard_memory(64, "INT:100s,KILL", 3600 * kSecond);
  level(100);
  run_for(1'800'000);
  const std::uint64_t late = guard_memory(64, "INT:1000s,KILL", 300 * kSecond);
  run_for(299'000);
  EXPECT_EQ(steps_of(late), 0U);
  level(110);
  run_for(1'000);
  EXPECT_EQ(steps_of(late), 1U);
}

TEST_F(ControllerApart, NorBeforeItIsResumedOrSetToThatLimit) {
  guard_memory(64, "INT:100s,KILL", 3600 * kSecond);
  const std::uint64_t paused = guard_memory(64, "INT:1000s,KILL", 300 * kSecond);
  const std::uint64_t set = guard_memory(900, "INT:1000s,KILL", 300 * kSecond);
  controller_.pause(paused);
  level(100);
  run_for(1'800'000);
  controller_.resume(paused);
  ASSERT_TRUE(controller_.set_limit(set, PG_MEMORY, 64 * kMiB).ok());
  run_for(299'000);
  EXPECT_EQ(steps_of(paused), 0U);
  EXPECT_EQ(steps_of(set), 0U);
  run_for(1'000);
  EXPECT_EQ(steps_of(paused), 1U);
  EXPECT_EQ(steps_of(set), 1U);
}

// A slot that was over its limit is given another one that the level is over too.
TEST_F(ControllerApart, NorWithTheLimitThatWasInItsPlace) {
  guard_memory(64, "INT:1000s,KILL", 3600 * kSecond);
  guard_memory(256, "INT:1000s,KILL", 3600 * kSecond);
  level(150);
  run_for(1'800'000);
  const std::uint64_t late = guard_memory(128, "INT:1000s,KILL", 300 * kSecond);
  run_for(299'000);
  EXPECT_EQ(steps_of(late), 0U);
  run_for(1'000);
  EXPECT_EQ(steps_of(late), 1U);
}

// The kernel was about to tell of the first one's crossing.
TEST_F(ControllerApart, ACrossingThatArmingAnotherGuardHasFoundIsNotLost) {
  const std::uint64_t first = guard_memory(64, "INT:100s,KILL");
  source_.at(watch_).levels.memory_bytes = 100 * kMiB;
  guard_memory(128, "INT:100s,KILL");
  EXPECT_EQ(steps_of(first), 0U);
  run_for(0);
  EXPECT_EQ(steps_of(first), 1U);
}

TEST_F(ControllerApart, GrowthCountsFromWhatIsThereWhenItIsAskedFor) {
  guard_time();
  source_.at(watch_).unseen_bytes = 500 * kMiB;  // nobody has looked at memory
  core::GuardSpec made = spec();
  made.memory_growth_bytes = 100 * kMiB;
  arm_and_start(made);
  EXPECT_EQ(state().limit[PG_MEMORY_GROWTH].base, 500 * kMiB);
  EXPECT_EQ(sent(), Journal{});
}

TEST_F(ControllerApart, AndWhenItIsSet) {
  guard_time();
  source_.at(watch_).unseen_bytes = 500 * kMiB;
  ASSERT_TRUE(controller_.set_limit(guard_, PG_MEMORY_GROWTH, 100 * kMiB).ok());
  EXPECT_EQ(state().limit[PG_MEMORY_GROWTH].base, 500 * kMiB);
  level(590);
  EXPECT_EQ(sent(), Journal{});
  level(601);
  EXPECT_EQ(sent(), Journal{"42 INT"});
  ASSERT_TRUE(controller_.set_limit(guard_, PG_MEMORY_GROWTH, 200 * kMiB).ok());
  EXPECT_EQ(state().limit[PG_MEMORY_GROWTH].base, 500 * kMiB) << "a change is no new beginning";
}

}  // namespace
}  // namespace procguard::test
