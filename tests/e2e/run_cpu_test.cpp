// SPDX-License-Identifier: Apache-2.0
// procguard run --cpu: when it trips, by getrusage of what spun, and the report's CPU times.
#include <gtest/gtest.h>

#include "tests/e2e/guarded_run.h"

namespace procguard::test {
namespace {

struct Spin {
  const char* name;
  Strings arguments;
};

class RunCpu : public testing::TestWithParam<Spin> {};

TEST_P(RunCpu, EndsASpinnerAtItsLimit) {
  constexpr double kLimit = 0.5;
  constexpr double kTolerance = 0.1 * kLimit + 0.05;
  Measured measured;
  Strings command = GetParam().arguments;
  command.insert(command.begin(), program("spin"));
  const Guarded guarded = run_guarded({"--cpu", "500ms"}, measured.wrap(command));
  ASSERT_EQ(guarded.status(), 124) << guarded.describe();
  EXPECT_EQ(guarded.resource(), "cpu") << guarded.describe();
  EXPECT_EQ(guarded.report["trip"]["limit"], 500'000'000) << guarded.describe();
  EXPECT_GE(guarded.report["trip"]["observed"], 500'000'000) << "early\n" << guarded.describe();
  EXPECT_NEAR(measured.cpu_seconds(), kLimit, kTolerance) << guarded.describe();
  EXPECT_TRUE(guarded.survivors.empty()) << guarded.describe();
}

INSTANTIATE_TEST_SUITE_P(
    All, RunCpu,
    testing::Values(Spin{"OneThread", {}}, Spin{"FourThreads", {"--threads", "4"}},
                    Spin{"TwoProcesses", {"--processes", "2"}},
                    Spin{"SixProcessesOfTwoThreads", {"--processes", "6", "--threads", "2"}}),
    [](const auto& row) { return std::string(row.param.name); });

TEST(RunCpuLimit, ASleeperIsNeverTouched) {
  const Guarded guarded = run_guarded(
      {"--cpu", "100ms"}, {program("sleeper"), "--trap", "INT,TERM", "--seconds", "1.5"});
  EXPECT_EQ(guarded.status(), 0) << guarded.describe();
  EXPECT_FALSE(guarded.tripped()) << guarded.describe();
  EXPECT_EQ(guarded.outcome.out.find("got"), std::string::npos) << guarded.describe();
}

TEST(RunCpuLimit, OfEndedProcessesCounts) {
  // No process lives long enough to reach the limit alone.
  const std::string script = "while :; do " + program("spin") + " --cpu 0.05; done";
  const Guarded guarded = run_guarded({"--cpu", "400ms"}, {"sh", "-c", script});
  EXPECT_EQ(guarded.status(), 124) << guarded.describe();
  EXPECT_EQ(guarded.resource(), "cpu") << guarded.describe();
}

TEST(RunCpuLimit, LaterStepsGoByWallTime) {
  const Guarded guarded = run_guarded({"--cpu", "200ms", "--kill", "--step-grace", "300ms"},
                                      {program("spin"), "--ignore", "INT,TERM"});
  EXPECT_EQ(guarded.status(), 137) << guarded.describe();
  ASSERT_EQ(guarded.signals(), (Strings{"INT", "TERM", "KILL"})) << guarded.describe();
  EXPECT_NEAR(guarded.step_seconds(0, 2), 0.6, 0.3) << guarded.describe();
}

TEST(RunCpuLimit, WhenTheLeaderHasEnded) {
  const Guarded guarded = run_guarded({"--cpu", "300ms"}, {program("leader_exits"), "spin", "20"});
  EXPECT_EQ(guarded.status(), 124) << guarded.describe();
  EXPECT_EQ(guarded.resource(), "cpu") << guarded.describe();
}

TEST(RunCpuLimit, WhenAThreadHasExecuted) {
  const Guarded guarded =
      run_guarded({"--cpu", "300ms"}, {program("exec_by_thread"), "--", program("spin")});
  EXPECT_EQ(guarded.status(), 124) << guarded.describe();
  EXPECT_EQ(guarded.resource(), "cpu") << guarded.describe();
}

class RunCpuReport : public testing::TestWithParam<Spin> {};

TEST_P(RunCpuReport, AgreesWithGetrusage) {
  Measured measured;
  Strings command = GetParam().arguments;
  command.insert(command.begin(), program("spin"));
  const Guarded guarded = run_guarded({"-t", "60s", "--cpu", "60s"}, measured.wrap(command));
  ASSERT_EQ(guarded.status(), 0) << guarded.describe();
  const double rusage = measured.cpu_seconds();
  // `reap` and exec are in the report alone: a few milliseconds.
  EXPECT_NEAR(guarded.usage("cpu_ns") / 1e9, rusage, 0.02 * rusage + 0.01) << guarded.describe();
}

INSTANTIATE_TEST_SUITE_P(All, RunCpuReport,
                         testing::Values(Spin{"OneThread", {"--cpu", "1"}},
                                         Spin{"FourThreads", {"--cpu", "1.5", "--threads", "4"}}),
                         [](const auto& row) { return std::string(row.param.name); });

TEST(RunCpuReportThreads, AddUpToTheWhole) {
  // Looked at when the limit trips: all that has used CPU is alive then.
  const Guarded guarded =
      run_guarded({"--cpu", "800ms"}, {program("spin"), "--threads", "4", "--cpu", "5"});
  ASSERT_EQ(guarded.resource(), "cpu") << guarded.describe();
  double of_threads = 0;
  int spinning = 0;
  for (const Json& thread : guarded.report["threads"]) {
    of_threads += thread["cpu_ns"].get<double>() / 1e9;
    spinning += thread["cpu_ns"] > 50'000'000 ? 1 : 0;
  }
  EXPECT_EQ(spinning, 4) << guarded.describe();
  // The threads are looked at a moment after the crossing, and run on until then.
  const double observed = guarded.report["trip"]["observed"].get<double>() / 1e9;
  EXPECT_GE(of_threads, observed - 0.03) << guarded.describe();
  EXPECT_LE(of_threads, observed + 0.3) << guarded.describe();
}

}  // namespace
}  // namespace procguard::test
