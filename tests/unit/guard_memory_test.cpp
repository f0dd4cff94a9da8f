// SPDX-License-Identifier: Apache-2.0
// The memory table of the specification, for both memory limits.
#include <gtest/gtest.h>

#include <csignal>

#include "core/guard.h"
#include "tests/support/guard_driver.h"

namespace procguard::core {
namespace {

using test::At;
using test::GuardDriver;

constexpr std::uint64_t kLimit = 64 << 20;
constexpr std::uint64_t kEntry = 10 << 20;  // RSS when the guard began

class GuardMemory : public ::testing::TestWithParam<pg_resource> {
 protected:
  GuardSpec spec(Ns grace_ms, Ns step_grace_ms = 1000) const {
    GuardSpec made;
    (GetParam() == PG_MEMORY ? made.memory_bytes : made.memory_growth_bytes) = kLimit;
    made.grace_ns = grace_ms * kMillisecond;
    made.step_grace_ns = step_grace_ms * kMillisecond;
    made.ladder = preset_ladder(Preset::kSignal, true);
    return made;
  }
  // The level that is exactly the limit.
  std::uint64_t at_limit() const { return GetParam() == PG_MEMORY ? kLimit : kEntry + kLimit; }
  // A level `above` the limit since `since_ms`.
  Level over(Ns since_ms, std::uint64_t above = 4096) const {
    return Level{GetParam(), at_limit() + above, kOrigin + since_ms * kMillisecond};
  }
  Level under(std::uint64_t below = 4096) const { return Level{GetParam(), at_limit() - below, 0}; }
  // "m/0@5 m/1@1005" with the resource's name for m.
  std::string expected(const std::string& steps) const {
    std::string text;
    for (char c : steps) {
      text += c == 'm' ? resource_name(GetParam()) : std::string(1, c);
    }
    return text;
  }
  std::string run(const GuardSpec& made, const std::vector<At>& script, Ns end_ms) {
    GuardDriver driver(made, Start{.cpu_ns = 0, .rss_bytes = kEntry});
    EXPECT_TRUE(driver.ok());
    EXPECT_EQ(driver.origin(), kOrigin);
    driver.play(script);
    driver.run_to(end_ms);
    return driver.steps();
  }

  static constexpr Ns kOrigin = 1000 * kSecond;
};

INSTANTIATE_TEST_SUITE_P(Limits, GuardMemory, ::testing::Values(PG_MEMORY, PG_MEMORY_GROWTH),
                         [](const auto& param) { return resource_name(param.param); });

TEST_P(GuardMemory, Table) {
  const Ns ends = 1'000'000;
  struct {
    const char* name;
    Ns grace_ms;
    std::vector<At> script;
    const char* steps;
  } rows[] = {
      {"under: nothing", 0, {{5, under()}, {10, under()}}, ""},
      {"over, no grace: at once, then a step grace apart, then nothing",
       0,
       {{5, over(5)}},
       "m/0@5 m/1@1005 m/2@2005"},
      {"already over at entry", 0, {{0, over(0)}}, "m/0@0 m/1@1000 m/2@2000"},
      {"grace is counted from the crossing, not from when it was read",
       1000,
       {{400, over(5)}},
       "m/0@1005 m/1@2005 m/2@3005"},
      {"a spike that goes away", 1000, {{100, over(100)}, {600, under()}}, ""},
      {"a spike that goes away at the last moment", 1000, {{0, over(0)}, {999, under()}}, ""},
      {"a plateau", 1000, {{100, over(100)}, {1600, under()}}, "m/0@1100"},
      {"three spikes, three interrupts",
       0,
       {{100, over(100)},
        {200, under()},
        {300, over(300)},
        {400, under()},
        {500, over(500)},
        {600, under()}},
       "m/0@100 m/0@300 m/0@500"},
      {"recovery between the steps takes it to the foot",
       0,
       {{0, over(0)}, {1500, under()}, {2500, over(2500)}},
       "m/0@0 m/1@1000 m/0@2500 m/1@3500 m/2@4500"},
      {"after the last step nothing revives it",
       0,
       {{0, over(0)}, {2100, under()}, {2200, over(2200)}},
       "m/0@0 m/1@1000 m/2@2000"},
      {"exactly at the limit, from below: no change", 0, {{5, under(0)}}, ""},
      {"exactly at the limit, from above: still over",
       1000,
       {{0, over(0)}, {500, over(0, 0)}},
       "m/0@1000 m/1@2000 m/2@3000"},
      {"the same news twice",
       0,
       {{5, over(5)}, {5, over(5)}, {6, over(5)}},
       "m/0@5 m/1@1005 m/2@2005"},
      {"a new crossing, the fall before it unseen: grace anew",
       1000,
       {{100, over(100)}, {900, over(850)}},
       "m/0@1850 m/1@2850 m/2@3850"},
      {"a new crossing mid-ladder, the fall unseen",
       0,
       {{100, over(100)}, {900, over(850)}},
       "m/0@100 m/0@900 m/1@1850 m/2@2850"},
      {"progress is nothing to memory",
       1000,
       {{0, over(0)}, {500, Progress{}}},
       "m/0@1000 m/1@2000 m/2@3000"},
      {"target gone during grace", 1000, {{0, over(0)}, {500, TargetGone{}}}, ""},
      {"target gone mid-ladder", 0, {{0, over(0)}, {500, TargetGone{}}}, "m/0@0"},
      {"released during grace", 1000, {{0, over(0)}, {500, Release{}}, {600, over(600)}}, ""},
      {"the kernel's clock a moment ahead", 0, {{5, over(6)}}, "m/0@6 m/1@1006 m/2@2006"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.name);
    EXPECT_EQ(run(spec(row.grace_ms), row.script, ends), expected(row.steps));
  }
}

TEST_P(GuardMemory, SecondaryGrace) {
  GuardSpec made = spec(0, 1);
  EXPECT_EQ(run(made, {{0, over(0)}}, 1000), expected("m/0@0 m/1@10 m/2@20"));
  made.step_grace_ns = 0;
  EXPECT_EQ(run(made, {{0, over(0)}}, 100'000), expected("m/0@0 m/1@5000 m/2@10000"));
}

TEST_P(GuardMemory, ObservedIsInTheLimitsTerms) {
  GuardDriver driver(spec(1000), Start{.cpu_ns = 0, .rss_bytes = kEntry});
  driver.feed(over(0, 4096));
  EXPECT_EQ(driver.limit(GetParam()).observed, kLimit + 4096);
  driver.run_to(900);
  driver.feed(over(0, 8192));
  driver.run_to(1000);
  driver.feed(over(0, 1 << 20));
  EXPECT_EQ(driver.limit(GetParam()).observed, kLimit + 8192) << "as it was at step 0";
  EXPECT_EQ(driver.limit(GetParam()).tripped_ns, kOrigin + 1000 * kMillisecond);
  EXPECT_EQ(driver.limit(GetParam()).episodes, 1u);
  EXPECT_EQ(driver.events(), "armed over");
  const pg_event& over_event = driver.told()[1];
  EXPECT_EQ(over_event.limit, kLimit);
  EXPECT_EQ(over_event.observed, kLimit + 4096);
  EXPECT_EQ(over_event.due_ns, kOrigin + 1000 * kMillisecond);
  driver.feed(under());
  EXPECT_EQ(driver.events(), "armed over back_under");
}

TEST_P(GuardMemory, NewLimitCountsFromTheNextLevel) {
  GuardDriver driver(spec(1000), Start{.cpu_ns = 0, .rss_bytes = kEntry});
  driver.feed(over(0));
  driver.feed(SetLimit{GetParam(), 2 * kLimit});
  driver.run_to(500);
  driver.feed(under());  // the source compared with the new limit
  driver.run_to(3000);
  EXPECT_EQ(driver.steps(), "");
  driver.feed(SetLimit{GetParam(), kLimit / 2});
  driver.feed(over(3000));
  driver.run_to(4000);
  EXPECT_EQ(driver.steps(), expected("m/0@4000"));
}

TEST_P(GuardMemory, HugeGraceAndLimitsSaturate) {
  GuardSpec made = spec(0);
  made.grace_ns = UINT64_MAX;
  EXPECT_EQ(run(made, {{0, over(0)}}, 1'000'000'000), "");
  made.memory_bytes = made.memory_bytes != 0 ? UINT64_MAX / 2 : 0;
  made.memory_growth_bytes = made.memory_growth_bytes != 0 ? UINT64_MAX / 2 : 0;
  EXPECT_EQ(run(made, {{0, under()}}, 1'000'000), "");
}

TEST_P(GuardMemory, TheKernelsStepCountsAsStepZero) {
  GuardDriver driver(spec(0), Start{.cpu_ns = 0, .rss_bytes = kEntry});
  driver.run_to(9);
  driver.feed(KernelActed{.resource = GetParam(),
                          .pid = 77,
                          .at_ns = kOrigin + 2 * kMillisecond,
                          .value = at_limit() + 4096,
                          .over_since_ns = kOrigin + 2 * kMillisecond});
  driver.feed(over(2));
  driver.run_to(1'000'000);
  EXPECT_EQ(driver.steps(), expected("m/0@2 m/1@1002 m/2@2002"));
  ASSERT_EQ(driver.taken().size(), 3u);
  EXPECT_EQ(driver.taken()[0].kernel_pid, 77u) << "for those that the kernel did not reach";
  EXPECT_EQ(driver.taken()[1].kernel_pid, 0u);
  EXPECT_EQ(driver.told()[2].by, static_cast<unsigned>(PG_BY_KERNEL));
  EXPECT_EQ(driver.events(), "armed over");
}

TEST_P(GuardMemory, TheKernelActedAndTheLevelHasFallenSince) {
  GuardDriver driver(spec(0), Start{.cpu_ns = 0, .rss_bytes = kEntry});
  driver.run_to(9);
  driver.feed(KernelActed{.resource = GetParam(),
                          .pid = 77,
                          .at_ns = kOrigin + 2 * kMillisecond,
                          .value = at_limit() - 4096,
                          .over_since_ns = 0});
  driver.feed(under());
  driver.run_to(100);
  driver.feed(over(100));
  driver.run_to(500);
  EXPECT_EQ(driver.steps(), expected("m/0@2 m/0@100"));
  EXPECT_EQ(driver.events(), "armed over back_under over");
  EXPECT_GE(driver.told()[1].observed, kLimit);
}

TEST_P(GuardMemory, TheKernelActedTooLateToBeFirst) {
  GuardDriver driver(spec(0), Start{.cpu_ns = 0, .rss_bytes = kEntry});
  driver.run_to(5);
  driver.feed(over(5));
  driver.feed(KernelActed{.resource = GetParam(),
                          .pid = 77,
                          .at_ns = driver.now(),
                          .value = at_limit() + 1,
                          .over_since_ns = kOrigin + 5 * kMillisecond});
  driver.run_to(1500);
  EXPECT_EQ(driver.steps(), expected("m/0@5 m/1@1005"));
}

TEST_P(GuardMemory, ANewEpisodeOfTheKernelMidLadder) {
  GuardDriver driver(spec(0), Start{.cpu_ns = 0, .rss_bytes = kEntry});
  driver.feed(over(0));
  driver.run_to(700);
  driver.feed(KernelActed{.resource = GetParam(),
                          .pid = 77,
                          .at_ns = kOrigin + 650 * kMillisecond,
                          .value = at_limit() + 1,
                          .over_since_ns = kOrigin + 650 * kMillisecond});
  driver.run_to(1700);
  EXPECT_EQ(driver.steps(), expected("m/0@0 m/0@650 m/1@1650"));
  EXPECT_EQ(driver.events(), "armed over back_under over");
}

}  // namespace
}  // namespace procguard::core
