// SPDX-License-Identifier: Apache-2.0
// The exit status of procguard run, row by row, with its order of precedence:
// 125-127, --preserve-status, --distinct-status, 137, 124.
#include <gtest/gtest.h>

#include "tests/e2e/guarded_run.h"

namespace procguard::test {
namespace {

struct Row {
  const char* name;
  Strings options;
  Strings command;
  int status;
};

class RunExitStatus : public testing::TestWithParam<Row> {};

TEST_P(RunExitStatus, Is) {
  Strings command = GetParam().command;
  if (command[0] == "sleeper" || command[0] == "spin" || command[0] == "grow") {
    command[0] = program(command[0] == "grow" ? "touch" : command[0]);
  }
  const Guarded guarded = run_guarded(GetParam().options, command);
  EXPECT_EQ(guarded.status(), GetParam().status) << guarded.describe();
  EXPECT_EQ(guarded.outcome.term_signal, 0) << "run exits, it is not ended by a signal";
}

const Strings kStubborn = {"sleeper", "--ignore", "INT,TERM"};

Strings with_kill(Strings limits) {
  limits.insert(limits.end(), {"--kill", "--step-grace", "50ms"});
  return limits;
}

INSTANTIATE_TEST_SUITE_P(
    NotTripped, RunExitStatus,
    testing::Values(
        Row{"Zero", {"-t", "20s"}, {"true"}, 0}, Row{"One", {"-t", "20s"}, {"false"}, 1},
        Row{"Any", {"-t", "20s"}, {"sh", "-c", "exit 255"}, 255},
        Row{"OwnTimeoutStatus", {"-t", "20s"}, {"sh", "-c", "exit 124"}, 124},
        Row{"Terminated", {"-t", "20s"}, {"sh", "-c", "kill -TERM $$"}, 143},
        Row{"Killed", {"-t", "20s"}, {"sh", "-c", "kill -KILL $$"}, 137},
        Row{"Realtime", {"-t", "20s"}, {"sh", "-c", "kill -35 $$"}, 163},
        Row{"NotExecutable", {"-t", "20s"}, {"/etc/passwd"}, 126},
        Row{"ADirectory", {"-t", "20s"}, {"/tmp"}, 126},
        Row{"NotFound", {"-t", "20s"}, {"/nonexistent/command"}, 127},
        Row{"NotInPath", {"-t", "20s"}, {"no-such-command-here"}, 127},
        Row{"NotFoundPreserve", {"-t", "20s", "--preserve-status"}, {"no-such-command-here"}, 127},
        Row{"NotFoundDryRun", {"-t", "20s", "--dry-run"}, {"no-such-command-here"}, 127},
        Row{"Distinct", {"-t", "20s", "--distinct-status"}, {"sh", "-c", "exit 9"}, 9},
        Row{"Preserve", {"-t", "20s", "--preserve-status"}, {"sh", "-c", "exit 9"}, 9}),
    [](const auto& row) { return std::string(row.param.name); });

INSTANTIATE_TEST_SUITE_P(
    Tripped, RunExitStatus,
    testing::Values(
        Row{"BySignal", {"-t", "100ms"}, {"sleep", "9"}, 124},
        Row{"ExitedZero", {"-t", "200ms"}, {"sleeper", "--exit-on", "INT:0"}, 124},
        Row{"ExitedFive", {"-t", "200ms"}, {"sleeper", "--exit-on", "INT:5"}, 124},
        Row{"ByKill", with_kill({"-t", "100ms"}), kStubborn, 137},
        Row{"PreserveSignal", {"-t", "100ms", "--preserve-status"}, {"sleep", "9"}, 130},
        Row{"PreserveZero",
            {"-t", "200ms", "--preserve-status"},
            {"sleeper", "--exit-on", "INT:0"},
            0},
        Row{"PreserveFive",
            {"-t", "200ms", "--preserve-status"},
            {"sleeper", "--exit-on", "INT:5"},
            5},
        Row{"PreserveKill", with_kill({"-t", "100ms", "--preserve-status"}), kStubborn, 137},
        Row{"DistinctTime", {"-t", "100ms", "--distinct-status"}, {"sleep", "9"}, 124},
        Row{"DistinctTimeKill", with_kill({"-t", "100ms", "--distinct-status"}), kStubborn, 124},
        Row{"DistinctCpu", {"--cpu", "100ms", "--distinct-status"}, {"spin"}, 120},
        Row{"DistinctCpuKill",
            with_kill({"--cpu", "100ms", "--distinct-status"}),
            {"spin", "--ignore", "INT,TERM"},
            120},
        Row{"DistinctMemory", {"-m", "32M", "--distinct-status"}, {"grow", "2G"}, 121},
        Row{"DistinctMemoryKill",
            with_kill({"-m", "32M", "--distinct-status"}),
            {"grow", "128M", "--hold", "30", "--ignore", "INT,TERM"},
            121},
        Row{"DistinctGrowth", {"--memory-growth", "32M", "--distinct-status"}, {"grow", "2G"}, 121},
        Row{"Cpu", {"--cpu", "100ms"}, {"spin"}, 124},
        Row{"Memory", {"-m", "32M"}, {"grow", "2G"}, 124},
        Row{"PreserveBeatsDistinct",
            {"-t", "100ms", "--preserve-status", "--distinct-status"},
            {"sleep", "9"},
            130},
        // A limit that does not trip does not count: the one that did names the status.
        Row{"TheFirstToTrip",
            {"-t", "20s", "-m", "1G", "--cpu", "100ms", "--distinct-status"},
            {"spin"},
            120}),
    [](const auto& row) { return std::string(row.param.name); });

INSTANTIATE_TEST_SUITE_P(
    DryRun, RunExitStatus,
    testing::Values(Row{"Zero", {"-t", "100ms", "--dry-run"}, {"sleep", "0.4"}, 0},
                    Row{"Four", {"-t", "100ms", "--dry-run"}, {"sh", "-c", "sleep 0.4; exit 4"}, 4},
                    Row{"Distinct",
                        {"-t", "100ms", "--dry-run", "--distinct-status"},
                        {"sh", "-c", "sleep 0.4; exit 4"},
                        4},
                    Row{"Memory", {"-m", "32M", "--dry-run"}, {"grow", "64M"}, 0}),
    [](const auto& row) { return std::string(row.param.name); });

TEST(RunDryRun, RecordsStepsAndTakesNone) {
  const Guarded guarded =
      run_guarded({"-t", "100ms", "--dry-run", "--kill", "--step-grace", "50ms"},
                  {program("sleeper"), "--trap", "INT,TERM", "--seconds", "1"});
  EXPECT_EQ(guarded.status(), 0) << guarded.describe();
  EXPECT_TRUE(guarded.tripped()) << guarded.describe();
  EXPECT_EQ(guarded.signals(), (Strings{"INT", "TERM", "KILL"})) << guarded.describe();
  EXPECT_EQ(guarded.results(), (Strings{"dry_run", "dry_run", "dry_run"})) << guarded.describe();
  EXPECT_EQ(guarded.outcome.out.find("got"), std::string::npos) << guarded.describe();
  EXPECT_NE(guarded.outcome.out.find("slept"), std::string::npos) << guarded.describe();
  EXPECT_GE(line_count(guarded.outcome.err), 1) << "a dry run tells what it would have done";
}

TEST(RunDryRun, MemoryGoesOnGrowing) {
  const Guarded guarded = run_guarded({"-m", "32M", "--dry-run"}, {program("touch"), "96M"});
  EXPECT_EQ(guarded.status(), 0) << guarded.describe();
  EXPECT_EQ(guarded.resource(), "memory") << guarded.describe();
  EXPECT_GE(guarded.usage("peak_rss_bytes"), 96 * kMiB) << guarded.describe();
}

TEST(RunExec, SaysWhatCouldNotBeExecuted) {
  for (const char* command : {"/nonexistent/command", "/etc/passwd"}) {
    const Guarded guarded = run_guarded({"-t", "9s"}, {command});
    EXPECT_EQ(line_count(guarded.outcome.err), 1) << guarded.describe();
    EXPECT_NE(guarded.outcome.err.find(command), std::string::npos) << guarded.describe();
  }
}

}  // namespace
}  // namespace procguard::test
