// SPDX-License-Identifier: Apache-2.0
// A guard that is paused: its clocks stand still.
#include <gtest/gtest.h>

#include "core/guard.h"
#include "tests/support/guard_driver.h"

namespace procguard::core {
namespace {

using test::At;
using test::GuardDriver;

GuardSpec spec() {
  GuardSpec made;
  made.timeout_ns = 300 * kMillisecond;
  made.step_grace_ns = kSecond;
  made.ladder = preset_ladder(Preset::kSignal, false);
  return made;
}

struct Row {
  const char* name;
  std::vector<At> script;
  Ns end_ms;
  const char* steps;
};

TEST(GuardPause, TheTimeoutsClockStandsStill) {
  const Row rows[] = {
      {"nothing while paused", {{100, Pause{}}}, 100'000, ""},
      {"what was left is left", {{100, Pause{}}, {1100, Resume{}}}, 1300, "timeout/0@1300"},
      {"not before", {{100, Pause{}}, {1100, Resume{}}}, 1299, ""},
      {"twice", {{100, Pause{}}, {200, Pause{}}, {1100, Resume{}}}, 1300, "timeout/0@1300"},
      {"resumed though it was not paused", {{100, Resume{}}}, 300, "timeout/0@300"},
      {"between steps the wait goes on where it was",
       {{800, Pause{}}, {1800, Resume{}}},
       2300,
       "timeout/0@300 timeout/1@2300"},
      {"progress while paused counts from the pause",
       {{100, Pause{}}, {500, Progress{}}, {1100, Resume{}}},
       1400,
       "timeout/0@1400"},
      {"a limit set while paused counts after it",
       {{100, Pause{}},
        {500, SetLimit{.resource = PG_TIMEOUT, .limit = 200 * kMillisecond}},
        {1100, Resume{}}},
       1200,
       "timeout/0@1200"},
      {"nor does the pause count where it takes a ladder back",
       {{310, Pause{}},
        {5000, SetLimit{.resource = PG_TIMEOUT, .limit = 600 * kMillisecond}},
        {9000, Resume{}}},
       9290,
       "timeout/0@300 timeout/0@9290"},
  };
  for (const Row& row : rows) {
    GuardDriver driver(spec());
    driver.play(row.script);
    driver.run_to(row.end_ms);
    EXPECT_EQ(driver.steps(), row.steps) << row.name;
  }
}

TEST(GuardPause, CpuUsedMeanwhileIsNotCounted) {
  GuardSpec made = spec();
  made.timeout_ns = 0;
  made.cpu_ns = 500;
  GuardDriver driver(made);
  driver.feed(Pause{.cpu_ns = 400});
  driver.feed(Level{.resource = PG_CPU, .value = 5000, .over_since_ns = 1});
  EXPECT_EQ(driver.steps(), "");
  driver.feed(Resume{.cpu_ns = 5000});
  driver.feed(Level{.resource = PG_CPU, .value = 5099, .over_since_ns = 0});
  EXPECT_EQ(driver.steps(), "");
  driver.feed(Level{.resource = PG_CPU, .value = 5100, .over_since_ns = 0});
  EXPECT_EQ(driver.steps(), "cpu/0@0");
}

TEST(GuardPause, MemoryOverItsLimitIsACrossingOfTheResumption) {
  GuardSpec made = spec();
  made.timeout_ns = 0;
  made.memory_bytes = 1000;
  made.grace_ns = 100 * kMillisecond;
  GuardDriver driver(made);
  driver.feed(Level{.resource = PG_MEMORY, .value = 1001, .over_since_ns = driver.now()});
  driver.run_to(50);
  driver.feed(Pause{});
  driver.run_to(5000);
  EXPECT_EQ(driver.steps(), "");
  driver.feed(Resume{});
  driver.feed(Level{.resource = PG_MEMORY, .value = 1001, .over_since_ns = driver.now()});
  driver.run_to(5099);
  EXPECT_EQ(driver.steps(), "");
  driver.run_to(5100);
  EXPECT_EQ(driver.steps(), "memory/0@5100");
}

}  // namespace
}  // namespace procguard::core
