// SPDX-License-Identifier: Apache-2.0
// Memory limits over time: grace, spikes, plateaus, recovery, and growth since the start.
#include <gtest/gtest.h>

#include "tests/e2e/guarded_run.h"

namespace procguard::test {
namespace {

TEST(RunGrace, ASpikeShorterThanItPasses) {
  const Guarded guarded =
      run_guarded({"--memory", "64M", "--grace", "1s"},
                  {program("touch"), "16M", "--spike", "128M:0.5", "--hold", "0.7"});
  EXPECT_EQ(guarded.status(), 0) << guarded.describe();
  EXPECT_FALSE(guarded.tripped()) << guarded.describe();
  EXPECT_GE(guarded.usage("peak_rss_bytes"), 128 * kMiB) << "there was a spike";
}

TEST(RunGrace, APlateauLongerThanItDoesNot) {
  const Guarded guarded =
      run_guarded({"--memory", "64M", "--grace", "1s"},
                  {program("touch"), "16M", "--spike", "128M:1.5", "--hold", "20"});
  EXPECT_EQ(guarded.status(), 124) << guarded.describe();
  EXPECT_EQ(guarded.resource(), "memory") << guarded.describe();
  EXPECT_GE(guarded.usage("wall_ns"), 1e9) << "not before the grace is over";
  EXPECT_EQ(guarded.outcome.out, "") << "it did not survive the plateau";
}

TEST(RunGrace, SpikesDoNotAddUp) {
  const Guarded guarded = run_guarded({"--memory", "64M", "--grace", "1s"},
                                      {program("touch"), "16M", "--spike", "128M:0.5", "--spike",
                                       "128M:0.5", "--spike", "128M:0.5"});
  EXPECT_EQ(guarded.status(), 0) << guarded.describe();
  EXPECT_FALSE(guarded.tripped()) << guarded.describe();
}

TEST(RunGrace, IsCountedFromTheCrossingOnTheWholeTree) {
  // The limit is crossed by two together; each alone stays below.
  const std::string half = program("touch") + " 48M --hold 20";
  const Guarded guarded = run_guarded({"--memory", "64M", "--grace", "500ms"},
                                      {"sh", "-c", half + " & " + half + "; wait"});
  EXPECT_EQ(guarded.status(), 124) << guarded.describe();
  EXPECT_GE(guarded.usage("wall_ns"), 0.5e9) << guarded.describe();
  EXPECT_LT(guarded.wall_seconds(), 15) << guarded.describe();
}

TEST(RunRecovery, TakesTheLadderBackToItsFoot) {
  const Guarded guarded =
      run_guarded({"-m", "64M", "--kill", "--step-grace", "500ms"},
                  {program("touch"), "128M", "--release-on", "INT", "--hold", "1.5"});
  EXPECT_EQ(guarded.status(), 124) << "tripped, and exited with 0\n" << guarded.describe();
  EXPECT_EQ(guarded.signals(), Strings{"INT"}) << guarded.describe();
  EXPECT_NE(guarded.outcome.out.find("released"), std::string::npos) << guarded.describe();
  EXPECT_NE(guarded.outcome.out.find("survived"), std::string::npos) << guarded.describe();
}

TEST(RunRecovery, ThreeSpikesAreThreeInterrupts) {
  const Guarded guarded =
      run_guarded({"-m", "64M", "--step-grace", "5s"},
                  {program("touch"), "16M", "--ignore", "INT", "--spike", "128M:0.2", "--spike",
                   "128M:0.2", "--spike", "128M:0.2", "--hold", "0.2"});
  EXPECT_EQ(guarded.status(), 124) << guarded.describe();
  EXPECT_EQ(guarded.signals(), (Strings{"INT", "INT", "INT"})) << guarded.describe();
  for (const Json& step : guarded.report["steps"]) {
    EXPECT_EQ(step["step"], 0) << guarded.describe();
  }
}

TEST(RunRecovery, IsOfItsOwnLimitAlone) {
  // Memory recovers at once; the timeout's ladder goes on to its end.
  const Guarded guarded = run_guarded(
      {"-m", "64M", "-t", "500ms", "--escalate", "HUP:300ms,KILL"},
      {program("touch"), "16M", "--ignore", "HUP", "--spike", "128M:0.05", "--hold", "20"});
  EXPECT_EQ(guarded.status(), 137) << guarded.describe();
  EXPECT_EQ(guarded.signals(), (Strings{"HUP", "HUP", "KILL"})) << guarded.describe();
  EXPECT_EQ(guarded.resource(), "memory") << "the first trip is the report's\n"
                                          << guarded.describe();
}

TEST(RunRecovery, APlateauClimbsTheWholeLadder) {
  const Guarded guarded =
      run_guarded({"-m", "64M", "--kill", "--step-grace", "200ms"},
                  {program("touch"), "128M", "--ignore", "INT,TERM", "--hold", "20"});
  EXPECT_EQ(guarded.status(), 137) << guarded.describe();
  EXPECT_EQ(guarded.signals(), (Strings{"INT", "TERM", "KILL"})) << guarded.describe();
}

TEST(RunGrowth, IsCountedFromTheStart) {
  const Guarded guarded = run_guarded({"--memory-growth", "64M"}, {program("touch"), "2G"});
  EXPECT_EQ(guarded.status(), 124) << guarded.describe();
  EXPECT_EQ(guarded.resource(), "memory_growth") << guarded.describe();
  EXPECT_GE(guarded.usage("peak_rss_bytes"), 64 * kMiB) << guarded.describe();
  EXPECT_LE(guarded.usage("peak_rss_bytes"), 68 * kMiB) << guarded.describe();
}

TEST(RunGrowth, AndAnAbsoluteLimitTheLowerWins) {
  const Strings grow = {program("touch"), "2G"};
  const Guarded low = run_guarded({"--memory-growth", "1G", "-m", "32M"}, grow);
  EXPECT_EQ(low.resource(), "memory") << low.describe();
  const Guarded high = run_guarded({"--memory-growth", "32M", "-m", "1G"}, grow);
  EXPECT_EQ(high.resource(), "memory_growth") << high.describe();
}

}  // namespace
}  // namespace procguard::test
