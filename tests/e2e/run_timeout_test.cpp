// SPDX-License-Identifier: Apache-2.0
// procguard run --timeout: when the ladder begins, what it sends, when it ends.
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>

#include "tests/e2e/guarded_run.h"

namespace procguard::test {
namespace {

TEST(RunTimeout, EndsASleeperInTime) {
  double best = 1e9;
  for (int i = 0; i < 20 && best >= 0.5; ++i) {  // a busy machine gets more chances
    const Guarded guarded = run_guarded({"--timeout", "300ms"}, {"sleep", "10"});
    ASSERT_EQ(guarded.status(), 124) << guarded.describe();
    EXPECT_EQ(guarded.resource(), "timeout") << guarded.describe();
    EXPECT_GE(guarded.usage("wall_ns"), 300e6) << "early\n" << guarded.describe();
    best = std::min(best, guarded.wall_seconds());
  }
  EXPECT_LT(best, 0.5);
}

TEST(RunTimeout, SaysWhyInOneLine) {
  const Guarded guarded = run_guarded({"-t", "100ms"}, {"sleep", "10"});
  EXPECT_EQ(line_count(guarded.outcome.err), 1) << guarded.describe();
  EXPECT_NE(guarded.outcome.err.find("timeout"), std::string::npos) << guarded.describe();
  EXPECT_NE(guarded.outcome.err.find("100ms"), std::string::npos) << guarded.describe();
  EXPECT_EQ(guarded.outcome.out, "");
}

TEST(RunTimeout, QuietSaysNothing) {
  const Guarded guarded = run_guarded({"-q", "-t", "100ms"}, {"sleep", "10"});
  EXPECT_EQ(guarded.status(), 124);
  EXPECT_EQ(guarded.outcome.err, "");
}

TEST(RunTimeout, VerboseSaysMore) {
  const Guarded guarded = run_guarded({"-v", "-t", "100ms"}, {"sleep", "10"});
  EXPECT_EQ(guarded.status(), 124);
  EXPECT_GT(line_count(guarded.outcome.err), 1) << guarded.describe();
}

TEST(RunTimeout, LeavesAJobThatBehavesAlone) {
  const Guarded guarded = run_guarded({"-t", "20s"}, {"sh", "-c", "sleep 0.2; exit 3"});
  EXPECT_EQ(guarded.status(), 3) << guarded.describe();
  EXPECT_FALSE(guarded.tripped()) << guarded.describe();
  EXPECT_TRUE(guarded.signals().empty()) << guarded.describe();
  EXPECT_EQ(guarded.outcome.err, "");
}

TEST(RunTimeout, AProcessThatIgnoresIntAndTermIsKilled) {
  const Guarded guarded = run_guarded({"--timeout", "300ms", "--kill", "--step-grace", "200ms"},
                                      {program("sleeper"), "--ignore", "INT,TERM"});
  ASSERT_EQ(guarded.status(), 137) << guarded.describe();
  ASSERT_EQ(guarded.signals(), (Strings{"INT", "TERM", "KILL"})) << guarded.describe();
  for (size_t i = 0; i < 3; ++i) {
    const Json& step = guarded.report["steps"][i];
    EXPECT_EQ(step["step"], i);
    EXPECT_EQ(step["action"], "signal");
    EXPECT_EQ(step["by"], "controller");
    EXPECT_EQ(step["result"], "sent");
    EXPECT_GE(step["late_ns"].get<double>(), 0);
  }
  // Steps stand on a grid: one that is a little late does not move the next.
  for (size_t i = 1; i < 3; ++i) {
    EXPECT_GT(guarded.step_seconds(i - 1, i), 0.1) << guarded.describe();
    EXPECT_LT(guarded.step_seconds(i - 1, i), 2.0) << guarded.describe();
  }
  EXPECT_TRUE(guarded.survivors.empty()) << guarded.describe();
}

TEST(RunTimeout, AStoppedTargetIsWokenToBeEnded) {
  const Guarded guarded = run_guarded({"-t", "500ms"}, {"sh", "-c", "kill -STOP $$; exec sleep 9"});
  EXPECT_EQ(guarded.status(), 124) << guarded.describe();
  EXPECT_LT(guarded.wall_seconds(), 8) << guarded.describe();
}

TEST(RunTimeout, ATargetThatEndsOnTheFirstStepGetsNoMore) {
  const Guarded guarded = run_guarded({"-t", "300ms", "--kill", "--step-grace", "100ms"},
                                      {program("sleeper"), "--exit-on", "INT:0"});
  EXPECT_EQ(guarded.status(), 124) << guarded.describe();
  EXPECT_EQ(guarded.signals(), Strings{"INT"}) << guarded.describe();
}

TEST(RunTimeout, AfterTheLastStepNothingMoreHappens) {
  const Guarded guarded =
      run_guarded({"-t", "100ms", "--step-grace", "50ms"},
                  {program("sleeper"), "--ignore", "INT,TERM", "--seconds", "1"});
  EXPECT_EQ(guarded.status(), 124) << "it tripped, but the command exited with 0\n"
                                   << guarded.describe();
  EXPECT_EQ(guarded.signals(), (Strings{"INT", "TERM", "TERM"})) << guarded.describe();
  EXPECT_NE(guarded.outcome.out.find("slept"), std::string::npos) << guarded.describe();
}

TEST(RunTimeout, TheStepGraceIsAtLeastTenMilliseconds) {
  const Guarded guarded = run_guarded({"-t", "100ms", "--kill", "--step-grace", "1us"},
                                      {program("sleeper"), "--ignore", "INT,TERM"});
  ASSERT_EQ(guarded.signals().size(), 3U) << guarded.describe();
  // Each is sent when it is due; lateness of the first may shorten the wait to the next.
  EXPECT_GT(guarded.step_seconds(0, 2), 0.015) << guarded.describe();
}

struct Ladder {
  const char* name;
  Strings options;
  Strings signals;
  int status;
};

class RunLadder : public testing::TestWithParam<Ladder> {};

TEST_P(RunLadder, IsTakenStepByStep) {
  const Ladder& row = GetParam();
  Strings options = {"-t", "200ms", "--step-grace", "50ms"};
  options.insert(options.end(), row.options.begin(), row.options.end());
  const Guarded guarded = run_guarded(
      options, {program("sleeper"), "--ignore", "INT,TERM,HUP,USR1,USR2", "--seconds", "1.5"});
  EXPECT_EQ(guarded.status(), row.status) << guarded.describe();
  EXPECT_EQ(guarded.signals(), row.signals) << guarded.describe();
}

INSTANTIATE_TEST_SUITE_P(
    All, RunLadder,
    testing::Values(
        Ladder{"Default", {}, {"INT", "TERM", "TERM"}, 124},
        Ladder{"Interrupt", {"--interrupt", "signal"}, {"INT", "TERM", "TERM"}, 124},
        Ladder{"InterruptKill", {"--interrupt", "signal", "--kill"}, {"INT", "TERM", "KILL"}, 137},
        Ladder{
            "Escalate", {"--escalate", "INT:50ms,TERM:100ms,KILL"}, {"INT", "TERM", "KILL"}, 137},
        Ladder{"EscalateOne", {"--escalate", "KILL"}, {"KILL"}, 137},
        Ladder{
            "EscalateDefaultWait", {"--escalate", "USR1,USR2,KILL"}, {"USR1", "USR2", "KILL"}, 137},
        Ladder{"EscalateSigPrefix", {"--escalate", "SIGHUP:20ms,sigkill"}, {"HUP", "KILL"}, 137},
        Ladder{"EscalateTwice", {"--escalate", "HUP,HUP"}, {"HUP", "HUP"}, 124},
        Ladder{"SignalThenKill", {"-s", "HUP", "-k", "50ms"}, {"HUP", "KILL"}, 137},
        Ladder{"SignalKill", {"-s", "KILL"}, {"KILL"}, 137}),
    [](const auto& row) { return std::string(row.param.name); });

TEST(RunLadderOptions, SignalReplacesTheFirstStep) {
  const Guarded guarded =
      run_guarded({"-t", "200ms", "-s", "USR1"}, {program("sleeper"), "--exit-on", "USR1:9"});
  EXPECT_EQ(guarded.status(), 124) << guarded.describe();
  EXPECT_EQ(guarded.signals(), Strings{"USR1"}) << guarded.describe();
}

TEST(RunLadderOptions, KillAfterAloneEndsInKill) {
  const Guarded guarded =
      run_guarded({"-t", "200ms", "-k", "100ms"}, {program("sleeper"), "--ignore", "INT,TERM"});
  EXPECT_EQ(guarded.status(), 137) << guarded.describe();
  ASSERT_GE(guarded.signals().size(), 2U) << guarded.describe();
  EXPECT_EQ(guarded.signals().back(), "KILL") << guarded.describe();
}

TEST(RunLadderOptions, WaitsOfTheListAreKept) {
  const Guarded guarded = run_guarded({"-t", "100ms", "--escalate", "INT:300ms,TERM:600ms,KILL"},
                                      {program("sleeper"), "--ignore", "INT,TERM"});
  ASSERT_EQ(guarded.signals(), (Strings{"INT", "TERM", "KILL"})) << guarded.describe();
  EXPECT_NEAR(guarded.step_seconds(0, 1), 0.3, 0.15) << guarded.describe();
  EXPECT_NEAR(guarded.step_seconds(1, 2), 0.6, 0.15) << guarded.describe();
}

class RunDuration : public testing::TestWithParam<const char*> {};

TEST_P(RunDuration, IsReadAsThreeHundredMilliseconds) {
  const Guarded guarded = run_guarded({"--timeout", GetParam()}, {"sleep", "10"});
  EXPECT_EQ(guarded.status(), 124) << guarded.describe();
  ASSERT_TRUE(guarded.tripped()) << guarded.describe();
  EXPECT_EQ(guarded.report["trip"]["limit"], 300'000'000) << guarded.describe();
  EXPECT_EQ(guarded.report["trip"]["unit"], "ns") << guarded.describe();
  EXPECT_GE(guarded.report["trip"]["observed"], 300'000'000) << guarded.describe();
}

INSTANTIATE_TEST_SUITE_P(All, RunDuration,
                         testing::Values("0.3", ".3s", "300ms", "300000us", "0.005m", "3e-1"));

TEST(RunDurationLong, HoursAndDaysAreTaken) {
  for (const char* duration : {"2h", "1.5d", "1e9", "inf"}) {
    EXPECT_EQ(run_guarded({"-t", duration}, {"true"}).status(), 0) << duration;
  }
}

}  // namespace
}  // namespace procguard::test
