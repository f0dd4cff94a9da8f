// SPDX-License-Identifier: Apache-2.0
// The memory table of the specification, for guards of blocks: both memory limits, every row,
// every ladder.
#include <gtest/gtest.h>

#include <tuple>

#include "tests/support/patrol_driver.h"

namespace procguard::test {
namespace {

using core::kMillisecond;
using core::kNever;

constexpr std::uint64_t kLimit = 64 << 20;
constexpr std::uint64_t kEntry = 10 << 20;  // RSS at the entry
constexpr core::Ns kEnd = 1'000'000;

// A level relative to the limit from a moment on; `since_ms`: the kernel tells when it crossed.
struct LevelAt {
  core::Ns ms;
  std::int64_t above;
  core::Ns since_ms = kNever;
};

class PatrolMemory : public ::testing::TestWithParam<std::tuple<procguard_resource, Ladder>> {
 protected:
  static procguard_resource resource() { return std::get<0>(GetParam()); }
  static const Ladder& ladder() { return std::get<1>(GetParam()); }

  static GuardPtr guard(core::Ns grace_ms, core::Ns step_grace_ms, std::uint64_t limit = kLimit) {
    procguard_options options{};
    options.resource = resource();
    options.interrupt_type = ladder().type;
    options.send_kill = ladder().send_kill ? 1 : 0;
    options.limit = limit;
    options.grace_ns = grace_ms * kMillisecond;
    options.step_grace_ns = step_grace_ms * kMillisecond;
    return guard_of(options);
  }
  // The level that is exactly the limit.
  static std::uint64_t at_limit() {
    return resource() == PROCGUARD_MEMORY ? kLimit : kEntry + kLimit;
  }
  static void apply(PatrolDriver& driver, const LevelAt& level) {
    driver.run_to(level.ms);
    driver.set_memory(at_limit() + static_cast<std::uint64_t>(level.above));
    if (level.since_ms != kNever) {
      driver.set_crossing(at_limit(), level.since_ms);
    }
    driver.round();  // the kernel woke the monitor
  }
  static void expect_ladder(const StepRecorder& recorder) {
    for (const StepRecorder::Step& step : recorder.steps) {
      const int signal = ladder().signals[step.trip.step];
      EXPECT_EQ(step.trip.signal, static_cast<unsigned>(signal));
      EXPECT_EQ(step.trip.action,
                signal == 0 ? PROCGUARD_ACTION_EXCEPTION : PROCGUARD_ACTION_SIGNAL);
      EXPECT_EQ(step.trip.last, step.trip.step == 2 ? 1U : 0U);
    }
  }
};

INSTANTIATE_TEST_SUITE_P(
    Limits, PatrolMemory,
    ::testing::Combine(::testing::Values(PROCGUARD_MEMORY, PROCGUARD_MEMORY_GROWTH),
                       ::testing::ValuesIn(kLadders)),
    [](const auto& param) {
      return std::string(std::get<0>(param.param) == PROCGUARD_MEMORY ? "memory_" : "growth_") +
             std::get<1>(param.param).name;
    });

struct Row {
  const char* name;
  core::Ns grace_ms;
  core::Ns step_grace_ms;
  std::vector<LevelAt> levels;
  core::Ns leave_ms;
  const char* steps;
};

const Row kRows[] = {
    {"under the limit: nothing", 0, 1000, {{5, -4096}, {10, -4096}}, kEnd, ""},
    {"at the limit: nothing", 0, 1000, {{5, -4096}, {10, 0}}, kEnd, ""},
    {"over the limit: at once, then secondary graces apart, then nothing",
     0,
     1000,
     {{5, 4096}},
     kEnd,
     "0@5 1@1005 2@2005"},
    {"over the limit already at the entry", 0, 1000, {{0, 4096}}, kEnd, "0@0 1@1000 2@2000"},
    {"over at the entry, with grace", 500, 1000, {{0, 4096}}, kEnd, "0@500 1@1500 2@2500"},
    {"over since before the entry: counts from the entry",
     500,
     1000,
     {{0, 4096, 0}},
     kEnd,
     "0@500 1@1500 2@2500"},
    {"grace", 1000, 100, {{5, 4096}}, kEnd, "0@1005 1@1105 2@1205"},
    {"grace counts from the kernel's time of the crossing",
     1000,
     100,
     {{400, 4096, 5}},
     kEnd,
     "0@1005 1@1105 2@1205"},
    {"a secondary grace under 10 ms is 10 ms", 0, 3, {{5, 4096}}, kEnd, "0@5 1@15 2@25"},
    {"a secondary grace of 10 ms", 0, 10, {{5, 4096}}, kEnd, "0@5 1@15 2@25"},
    {"no secondary grace given: 5 s", 0, 0, {{5, 4096}}, kEnd, "0@5 1@5005 2@10005"},
    {"recovery within the grace", 1000, 100, {{5, 4096}, {1004, -4096}}, kEnd, ""},
    {"recovery after step 0", 0, 1000, {{5, 4096}, {900, -4096}}, kEnd, "0@5"},
    {"recovery after step 1", 0, 1000, {{5, 4096}, {1900, -4096}}, kEnd, "0@5 1@1005"},
    {"recovery after the last step does not revive",
     0,
     100,
     {{5, 4096}, {300, -4096}, {400, 4096}},
     kEnd,
     "0@5 1@105 2@205"},
    {"three spikes, three interrupts",
     0,
     1000,
     {{5, 4096}, {100, -4096}, {200, 4096}, {300, -4096}, {400, 4096}, {500, -4096}},
     kEnd,
     "0@5 0@200 0@400"},
    {"three spikes within the grace",
     150,
     1000,
     {{5, 4096}, {100, -4096}, {200, 4096}, {300, -4096}, {400, 4096}, {500, -4096}},
     kEnd,
     ""},
    {"a spike between two looks begins anew",
     0,
     1000,
     {{5, 4096, 5}, {500, 4096, 450}},
     kEnd,
     "0@5 0@500 1@1450 2@2450"},
    {"the limit exactly is no recovery",
     1000,
     100,
     {{5, 4096}, {900, 0}},
     kEnd,
     "0@1005 1@1105 2@1205"},
    {"the limit exactly is no recovery between steps",
     0,
     1000,
     {{5, 4096}, {500, 0}},
     kEnd,
     "0@5 1@1005 2@2005"},
    {"left within the grace", 1000, 100, {{5, 4096}}, 1004, ""},
    {"left between steps", 0, 1000, {{5, 4096}}, 1004, "0@5"},
};

TEST_P(PatrolMemory, Table) {
  for (const Row& row : kRows) {
    SCOPED_TRACE(row.name);
    PatrolDriver driver;
    const GuardPtr limit = guard(row.grace_ms, row.step_grace_ms);
    driver.set_memory(kEntry);
    const procguard_entry entry = driver.enter(limit, kEntry);
    for (const LevelAt& level : row.levels) {
      apply(driver, level);
    }
    driver.run_to(row.leave_ms);
    EXPECT_TRUE(PatrolDriver::leave(entry));
    driver.run_to(2 * kEnd);
    EXPECT_EQ(driver.recorder.text, row.steps);
    expect_ladder(driver.recorder);
  }
}

TEST_P(PatrolMemory, StepsTellWhatTheyAre) {
  PatrolDriver driver;
  const GuardPtr limit = guard(0, 1000);
  driver.set_memory(kEntry);
  driver.enter(limit, kEntry);
  apply(driver, {7, 12345});
  ASSERT_EQ(driver.recorder.steps.size(), 1U);
  const procguard_trip& trip = driver.recorder.steps[0].trip;
  EXPECT_EQ(trip.guard, limit->id);
  EXPECT_EQ(trip.resource, static_cast<unsigned>(resource()));
  EXPECT_EQ(trip.limit, kLimit);
  EXPECT_EQ(trip.observed, kLimit + 12345);  // growth: without what there was at the entry
  EXPECT_EQ(trip.elapsed_ns, 7 * kMillisecond);
  EXPECT_EQ(trip.due_ns, PatrolDriver::at(7));
}

TEST_P(PatrolMemory, ProgressDoesNothing) {
  PatrolDriver driver;
  const GuardPtr limit = guard(100, 100);
  driver.set_memory(kEntry);
  const procguard_entry entry = driver.enter(limit, kEntry);
  apply(driver, {5, 4096});
  for (const core::Ns ms : {50, 120, 250}) {
    driver.run_to(ms);
    driver.progress(entry);
  }
  driver.run_to(kEnd);
  EXPECT_EQ(driver.recorder.text, "0@105 1@205 2@305");
}

TEST_P(PatrolMemory, ALimitOfZeroFiresAtOnce) {
  PatrolDriver driver;
  const GuardPtr limit = guard(0, 100, 0);
  driver.set_memory(kEntry + 4096);
  driver.enter(limit, kEntry);
  driver.run_to(kEnd);
  EXPECT_EQ(driver.recorder.text, "0@0 1@100 2@200");
  EXPECT_EQ(driver.recorder.steps[0].trip.limit, 0U);
}

TEST(PatrolLevels, TheNearestLimitsAreTold) {
  procguard_options options{};
  options.resource = PROCGUARD_MEMORY;
  options.grace_ns = core::kSecond;
  std::vector<GuardPtr> guards;
  for (const std::uint64_t limit : {10, 20, 30, 40}) {
    options.limit = limit;
    options.check_interval_ns = limit * kMillisecond;
    guards.push_back(guard_of(options));
  }
  PatrolDriver driver;
  struct {
    const char* name;
    std::uint64_t bytes;
    std::uint64_t above;
    std::uint64_t below;
  } rows[] = {
      {"below all", 5, 10, 0},           {"between", 25, 30, 20},
      {"equal is not over", 30, 30, 20}, {"above all", 50, kNever, 40},
      {"between again", 15, 20, 10},
  };
  const client::Round nobody = driver.round();
  EXPECT_EQ(nobody.nearest_above, kNever);
  EXPECT_EQ(nobody.nearest_below, 0U);
  EXPECT_EQ(nobody.check_interval_ns, kNever);
  std::vector<procguard_entry> entries;
  for (const GuardPtr& guard : guards) {
    entries.push_back(driver.enter(guard));
  }
  for (const auto& row : rows) {
    SCOPED_TRACE(row.name);
    driver.set_memory(row.bytes);
    const client::Round round = driver.round();
    EXPECT_EQ(round.nearest_above, row.above);
    EXPECT_EQ(round.nearest_below, row.below);
    EXPECT_EQ(round.check_interval_ns, 10 * kMillisecond);
  }
  PatrolDriver::leave(entries[0]);
  EXPECT_EQ(driver.round().nearest_below, 0U);
  EXPECT_EQ(driver.round().check_interval_ns, 20 * kMillisecond);
}

TEST(PatrolLevels, TimeGuardsHaveNoPartInThem) {
  PatrolDriver driver;
  procguard_options options{};
  options.limit = core::kSecond;
  const GuardPtr limit = guard_of(options);
  driver.enter(limit);
  driver.set_memory(kLimit);
  const client::Round round = driver.round();
  EXPECT_EQ(round.nearest_above, kNever);
  EXPECT_EQ(round.nearest_below, 0U);
  EXPECT_EQ(round.check_interval_ns, kNever);
}

TEST(PatrolLevels, GraceAsksForARoundWhenItEnds) {
  PatrolDriver driver;
  procguard_options options{};
  options.resource = PROCGUARD_MEMORY;
  options.limit = kLimit;
  options.grace_ns = 300 * kMillisecond;
  options.step_grace_ns = 50 * kMillisecond;
  const GuardPtr limit = guard_of(options);
  driver.enter(limit);
  EXPECT_EQ(driver.round().next_ns, kNever);
  driver.set_memory(kLimit + 1);
  EXPECT_EQ(driver.round().next_ns, PatrolDriver::at(300));
  driver.sleep_to(300);
  EXPECT_EQ(driver.round().next_ns, PatrolDriver::at(350));
  driver.set_memory(kLimit - 1);
  EXPECT_EQ(driver.round().next_ns, kNever);
}

}  // namespace
}  // namespace procguard::test
