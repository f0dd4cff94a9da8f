// SPDX-License-Identifier: Apache-2.0
// The timeout table of the specification, for guards of blocks: every row, every ladder.
#include <gtest/gtest.h>

#include <ostream>

#include "tests/support/patrol_driver.h"

namespace procguard::test {

void PrintTo(const Ladder& ladder, std::ostream* out) {
  *out << ladder.name;
}

namespace {

using core::kMillisecond;
using core::kNever;

class PatrolTimeout : public ::testing::TestWithParam<Ladder> {
 protected:
  static GuardPtr guard(core::Ns timeout_ms, core::Ns grace_ms, const Ladder& ladder = GetParam()) {
    procguard_options options{};
    options.resource = PROCGUARD_TIMEOUT;
    options.interrupt_type = ladder.type;
    options.send_kill = ladder.send_kill ? 1 : 0;
    options.limit = timeout_ms * kMillisecond;
    options.step_grace_ns = grace_ms * kMillisecond;
    return guard_of(options);
  }
  // Every step is the ladder's.
  static void expect_ladder(const StepRecorder& recorder) {
    for (const StepRecorder::Step& step : recorder.steps) {
      const int signal = GetParam().signals[step.trip.step];
      EXPECT_EQ(step.trip.signal, static_cast<unsigned>(signal));
      EXPECT_EQ(step.trip.action,
                signal == 0 ? PROCGUARD_ACTION_EXCEPTION : PROCGUARD_ACTION_SIGNAL);
      EXPECT_EQ(step.trip.last, step.trip.step == 2 ? 1U : 0U);
    }
  }
};

INSTANTIATE_TEST_SUITE_P(Ladders, PatrolTimeout, ::testing::ValuesIn(kLadders),
                         [](const auto& param) { return param.param.name; });

TEST_P(PatrolTimeout, Table) {
  const core::Ns never = 1'000'000;
  struct {
    const char* name;
    core::Ns timeout_ms;
    core::Ns grace_ms;
    std::vector<core::Ns> progress_ms;
    core::Ns leave_ms;
    const char* steps;
  } rows[] = {
      {"step 0 at the timeout, then a grace apart, then nothing",
       100,
       50,
       {},
       never,
       "0@100 1@150 2@200"},
      {"a timeout of 0 fires at once", 0, 50, {}, never, "0@0 1@50 2@100"},
      {"a grace under 10 ms is 10 ms", 100, 5, {}, never, "0@100 1@110 2@120"},
      {"a grace of 10 ms", 100, 10, {}, never, "0@100 1@110 2@120"},
      {"no grace given: 15 s", 100, 0, {}, never, "0@100 1@15100 2@30100"},
      {"progress before the timeout", 100, 50, {70}, never, "0@170 1@220 2@270"},
      {"progress again and again", 100, 50, {60, 120, 180}, never, "0@280 1@330 2@380"},
      {"progress at the last moment", 100, 50, {99}, never, "0@199 1@249 2@299"},
      {"progress after step 0: back to the foot", 100, 50, {110}, never, "0@100 0@210 1@260 2@310"},
      {"progress after step 1: back to the foot",
       100,
       50,
       {160},
       never,
       "0@100 1@150 0@260 1@310 2@360"},
      {"progress after step 0, each time",
       100,
       50,
       {110, 220, 330},
       never,
       "0@100 0@210 0@320 0@430 1@480 2@530"},
      {"progress after the last step does nothing", 100, 50, {201}, never, "0@100 1@150 2@200"},
      {"left before the timeout", 100, 50, {}, 99, ""},
      {"left after step 0", 100, 50, {}, 149, "0@100"},
      {"left after step 1", 100, 50, {}, 199, "0@100 1@150"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.name);
    PatrolDriver driver;
    const GuardPtr limit = guard(row.timeout_ms, row.grace_ms);
    const procguard_entry entry = driver.enter(limit);
    for (const core::Ns at : row.progress_ms) {
      driver.run_to(at);
      driver.progress(entry);
    }
    driver.run_to(row.leave_ms);
    EXPECT_TRUE(PatrolDriver::leave(entry));
    driver.run_to(2 * never);
    EXPECT_EQ(driver.recorder.text, row.steps);
    expect_ladder(driver.recorder);
  }
}

TEST_P(PatrolTimeout, StepsTellWhatTheyAre) {
  PatrolDriver driver;
  const GuardPtr limit = guard(100, 50);
  const procguard_entry entry = driver.enter(limit);
  driver.run_to(40);
  driver.progress(entry);
  driver.sleep_to(143);  // somebody held the monitor up
  driver.round();
  ASSERT_EQ(driver.recorder.steps.size(), 1U);
  const procguard_trip& trip = driver.recorder.steps[0].trip;
  EXPECT_EQ(trip.size, sizeof(procguard_trip));
  EXPECT_EQ(trip.guard, limit->id);
  EXPECT_EQ(trip.resource, static_cast<unsigned>(PROCGUARD_TIMEOUT));
  EXPECT_EQ(trip.limit, 100 * kMillisecond);
  EXPECT_EQ(trip.observed, 103 * kMillisecond);    // since the progress
  EXPECT_EQ(trip.elapsed_ns, 143 * kMillisecond);  // since the entry
  EXPECT_EQ(trip.due_ns, PatrolDriver::at(140));
  EXPECT_EQ(trip.at_ns, PatrolDriver::at(143));
  EXPECT_EQ(trip.withdrawn, 0U);
  EXPECT_EQ(limit->last_trip.at_ns, trip.at_ns);
}

TEST_P(PatrolTimeout, OverdueStepsKeepTheirDistance) {
  PatrolDriver driver;
  const GuardPtr limit = guard(100, 50);
  driver.enter(limit);
  driver.sleep_to(1000);
  driver.run_to(5000);
  EXPECT_EQ(driver.recorder.text, "0@1000 1@1050 2@1100");
  expect_ladder(driver.recorder);
}

// The rest has nothing to do with which ladder it is.
TEST(Patrol, ProgressThatTheMonitorHasNotSeenCounts) {
  PatrolDriver driver;
  procguard_options options{};
  options.limit = 100 * kMillisecond;
  const GuardPtr limit = guard_of(options);
  const procguard_entry entry = driver.enter(limit);
  driver.sleep_to(99);
  driver.progress(entry);
  driver.sleep_to(150);
  EXPECT_EQ(driver.round().next_ns, PatrolDriver::at(199));
  EXPECT_EQ(driver.recorder.text, "");
}

TEST(Patrol, TheNextRoundIsTheEarliestDeadline) {
  PatrolDriver driver;
  procguard_options options{};
  options.limit = 300 * kMillisecond;
  options.step_grace_ns = 50 * kMillisecond;
  const GuardPtr slow = guard_of(options);
  options.limit = 100 * kMillisecond;
  const GuardPtr quick = guard_of(options);
  EXPECT_EQ(driver.round().next_ns, kNever);
  driver.enter(slow);
  EXPECT_EQ(driver.round().next_ns, PatrolDriver::at(300));
  const procguard_entry inner = driver.enter(quick);
  EXPECT_EQ(driver.round().next_ns, PatrolDriver::at(100));
  driver.sleep_to(40);
  driver.progress(inner);
  EXPECT_EQ(driver.round().next_ns, PatrolDriver::at(140));
  driver.sleep_to(140);
  EXPECT_EQ(driver.round().next_ns, PatrolDriver::at(141));  // did it make progress just now?
  driver.sleep_to(141);
  EXPECT_EQ(driver.round().next_ns, PatrolDriver::at(190));  // its next step
  PatrolDriver::leave(inner);
  EXPECT_EQ(driver.round().next_ns, PatrolDriver::at(300));
  EXPECT_EQ(driver.recorder.text, "0@140");
}

// The monitor sleeps until the next step; progress makes the entry due before that.
TEST(Patrol, ProgressAfterAStepHasToBeTold) {
  PatrolDriver driver;
  procguard_options options{};
  options.limit = 100 * kMillisecond;
  options.step_grace_ns = core::kSecond;
  const GuardPtr limit = guard_of(options);
  const procguard_entry entry = driver.enter(limit);
  EXPECT_FALSE(driver.progress(entry));
  driver.run_to(99);
  EXPECT_FALSE(driver.progress(entry));
  driver.run_to(250);
  EXPECT_EQ(driver.recorder.text, "0@199");
  EXPECT_TRUE(driver.progress(entry));
  EXPECT_TRUE(driver.progress(entry));
  EXPECT_EQ(driver.round().next_ns, PatrolDriver::at(350));
  EXPECT_FALSE(driver.progress(entry));  // it looks in time by itself
  driver.run_to(4000);
  EXPECT_EQ(driver.recorder.text, "0@199 0@350 1@1350 2@2350");
  EXPECT_FALSE(driver.progress(entry));  // nothing comes of it any more
  PatrolDriver::leave(entry);
  EXPECT_FALSE(driver.progress(driver.enter(limit)));
}

TEST(Patrol, AnEndedLadderWantsNoMoreRounds) {
  PatrolDriver driver;
  procguard_options options{};
  options.limit = 0;
  options.step_grace_ns = 10 * kMillisecond;
  const GuardPtr limit = guard_of(options);
  const procguard_entry entry = driver.enter(limit);
  driver.run_to(1000);
  EXPECT_EQ(driver.recorder.text, "0@0 1@10 2@20");
  EXPECT_EQ(driver.round().next_ns, kNever);
  driver.progress(entry);
  driver.round();
  EXPECT_EQ(driver.round().next_ns, kNever);
}

TEST(Patrol, ASlotUsedAgainBeginsAnew) {
  PatrolDriver driver;
  procguard_options options{};
  options.limit = 100 * kMillisecond;
  const GuardPtr limit = guard_of(options);
  const procguard_entry before = driver.enter(limit);
  driver.run_to(120);
  EXPECT_TRUE(PatrolDriver::leave(before));
  const procguard_entry after = driver.enter(limit);
  EXPECT_EQ(after.slot, before.slot);
  EXPECT_NE(after.generation, before.generation);
  EXPECT_FALSE(PatrolDriver::leave(before));  // somebody else's now
  driver.run_to(500);
  EXPECT_EQ(driver.recorder.text, "0@100 0@220");
}

TEST(Patrol, AnEntryHeldByItsThreadIsLookedAtAgainSoon) {
  PatrolDriver driver;
  procguard_options options{};
  options.limit = 100 * kMillisecond;
  const GuardPtr limit = guard_of(options);
  const procguard_entry entry = driver.enter(limit);
  ASSERT_TRUE(client::slot_of(entry)->hold(entry.generation));
  driver.sleep_to(100);
  const core::Ns next = driver.round().next_ns;
  EXPECT_GT(next, PatrolDriver::at(100));
  EXPECT_LE(next, PatrolDriver::at(101));
  client::slot_of(entry)->let_go();
  driver.run_to(102);
  EXPECT_EQ(driver.recorder.text, "0@100");  // 0.1 ms later, to be exact
}

TEST(Patrol, MoreEntriesThanAChunkHolds) {
  PatrolDriver driver;
  procguard_options options{};
  options.limit = 100 * kMillisecond;
  const GuardPtr limit = guard_of(options);
  std::vector<procguard_entry> entries;
  for (int i = 0; i < 50; ++i) {
    entries.push_back(driver.enter(limit));
  }
  driver.run_to(100);
  EXPECT_EQ(driver.recorder.steps.size(), entries.size());
  for (const procguard_entry& entry : entries) {
    EXPECT_EQ(client::slot_of(entry)->pending.load(), 1U);
    EXPECT_TRUE(PatrolDriver::leave(entry));
  }
  EXPECT_EQ(driver.round().next_ns, kNever);
}

// A step may come a moment before the thread blocks in a system call: that is broken again, less
// and less often.
TEST(Patrol, NudgesUntilTheExceptionIsTakenUp) {
  PatrolDriver driver;
  procguard_options options{};
  options.limit = 100 * kMillisecond;
  options.interrupt_type = PROCGUARD_EXCEPTION;
  options.flags = PROCGUARD_PULL | PROCGUARD_BREAK_SYSCALLS;
  const GuardPtr limit = guard_of(options);
  const procguard_entry entry = driver.enter(limit);
  driver.run_to(3000);
  EXPECT_EQ(driver.recorder.nudges, "110 130 170 250 410 730 1370 2370");
  client::slot_of(entry)->clear_pending();
  driver.run_to(10'000);
  EXPECT_EQ(driver.recorder.nudges, "110 130 170 250 410 730 1370 2370");
  EXPECT_EQ(driver.thread().pending.load(), 0U);
}

TEST(Patrol, NobodyIsNudgedWhoDidNotAskForIt) {
  PatrolDriver driver;
  procguard_options options{};
  options.limit = 100 * kMillisecond;
  const GuardPtr limit = guard_of(options);
  driver.enter(limit);
  driver.run_to(3000);
  EXPECT_EQ(driver.recorder.nudges, "");
}

}  // namespace
}  // namespace procguard::test
