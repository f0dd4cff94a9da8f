// SPDX-License-Identifier: Apache-2.0
// Mistakes on the command line of procguard run: status 125, one clear message that names what is
// wrong, nothing on stdout, and the command is not started.
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/e2e/guarded_run.h"

namespace procguard::test {
namespace {

struct Mistake {
  const char* name;
  Strings options;
  const char* mentions;
};

class RunUsage : public testing::TestWithParam<Mistake> {};

TEST_P(RunUsage, IsRefused) {
  TempDir dir;
  Command command;
  command.argv = {procguard_binary(), "run"};
  command.argv.insert(command.argv.end(), GetParam().options.begin(), GetParam().options.end());
  command.argv.insert(command.argv.end(), {"--", "touch", dir / "started"});
  const Outcome outcome = run(command);
  EXPECT_EQ(outcome.status(), 125) << outcome.describe();
  EXPECT_EQ(outcome.out, "") << outcome.describe();
  EXPECT_NE(outcome.err.find(GetParam().mentions), std::string::npos)
      << "should mention " << GetParam().mentions << "\n"
      << outcome.describe();
  EXPECT_EQ(outcome.err.rfind("procguard", 0), 0U) << outcome.describe();
  EXPECT_GE(line_count(outcome.err), 1) << outcome.describe();
  EXPECT_LE(line_count(outcome.err), 2) << "one message and at most a hint\n" << outcome.describe();
  EXPECT_FALSE(std::filesystem::exists(dir / "started"));
}

std::string name_of(const testing::TestParamInfo<Mistake>& row) {
  return row.param.name;
}

INSTANTIATE_TEST_SUITE_P(
    Durations, RunUsage,
    testing::Values(
        Mistake{"Zero", {"-t", "0"}, "timeout"},
        Mistake{"ZeroWithUnit", {"--timeout", "0ms"}, "timeout"},
        Mistake{"Negative", {"--timeout=-1"}, "-1"}, Mistake{"NotANumber", {"-t", "soon"}, "soon"},
        Mistake{"Nan", {"-t", "nan"}, "nan"}, Mistake{"UnknownUnit", {"-t", "10w"}, "10w"},
        Mistake{"TwoUnits", {"-t", "1h30m"}, "1h30m"}, Mistake{"Empty", {"-t", ""}, "timeout"},
        Mistake{"ZeroCpu", {"--cpu", "0"}, "cpu"}, Mistake{"BadCpu", {"--cpu", "1x"}, "1x"},
        Mistake{"BadStepGrace", {"-t", "1", "--step-grace", "1x"}, "1x"},
        Mistake{"BadKillAfter", {"-t", "1", "-k", "1x"}, "1x"},
        Mistake{"BadGrace", {"-m", "1G", "--grace", "1x"}, "1x"}),
    name_of);

INSTANTIATE_TEST_SUITE_P(
    Sizes, RunUsage,
    testing::Values(Mistake{"Bare", {"-m", "64"}, "64"}, Mistake{"BareZero", {"-m", "0"}, "0"},
                    Mistake{"Zero", {"-m", "0M"}, "memory"},
                    Mistake{"Ambiguous", {"-m", "64KB"}, "64KB"},
                    Mistake{"Negative", {"--memory=-64M"}, "-64M"},
                    Mistake{"TwoPoints", {"-m", "1.2.3M"}, "1.2.3M"},
                    Mistake{"UnknownUnit", {"-m", "5Q"}, "5Q"},
                    Mistake{"Empty", {"-m", ""}, "memory"},
                    Mistake{"TooBig", {"-m", "99999999T"}, "99999999T"},
                    Mistake{"BareGrowth", {"--memory-growth", "64"}, "64"},
                    Mistake{"ZeroGrowth", {"--memory-growth", "0K"}, "memory-growth"}),
    name_of);

INSTANTIATE_TEST_SUITE_P(
    Ladders, RunUsage,
    testing::Values(Mistake{"Exception", {"-t", "1", "--interrupt", "exception"}, "exception"},
                    Mistake{"ExceptionThenSignal",
                            {"-t", "1", "--interrupt", "exception_then_signal"},
                            "exception_then_signal"},
                    Mistake{"UnknownPreset", {"-t", "1", "--interrupt", "shout"}, "shout"},
                    Mistake{"EmptyList", {"-t", "1", "--escalate", ""}, "escalate"},
                    Mistake{"EmptyStep", {"-t", "1", "--escalate", "INT,,KILL"}, "INT,,KILL"},
                    Mistake{"NoWait", {"-t", "1", "--escalate", "INT:,KILL"}, "INT:"},
                    Mistake{"BadWait", {"-t", "1", "--escalate", "INT:soon,KILL"}, "soon"},
                    Mistake{"UnknownSignal", {"-t", "1", "--escalate", "FOO"}, "FOO"},
                    Mistake{"TooManySteps",
                            {"-t", "1", "--escalate", "HUP,HUP,HUP,HUP,HUP,HUP,HUP,HUP,KILL"},
                            "8"},
                    Mistake{"UnknownDashS", {"-t", "1", "-s", "FOO"}, "FOO"}),
    name_of);

INSTANTIATE_TEST_SUITE_P(
    Others, RunUsage,
    testing::Values(
        Mistake{"NoLimit", {}, "limit"},
        Mistake{"GraceWithoutMemory", {"-t", "1", "--grace", "1s"}, "--step-grace"},
        Mistake{"UnknownOption", {"-t", "1", "--frobnicate"}, "--frobnicate"},
        Mistake{"ValueMissing", {"--name", "n", "--timeout"}, "timeout"},
        Mistake{"UnknownScope", {"-t", "1", "--scope", "planet"}, "planet"},
        Mistake{"ThreadScope", {"-t", "1", "--scope", "thread"}, "thread"},
        Mistake{"UnknownSource", {"-t", "1", "--source", "guess"}, "guess"},
        Mistake{"UnknownLeftovers", {"-t", "1", "--leftovers", "eat"}, "eat"},
        Mistake{"LongName", {"-t", "1", "--name", std::string(200, 'n')}, "name"},
        Mistake{"UnwritableReport", {"-t", "1", "--report", "/nonexistent/r"}, "/nonexistent/r"},
        Mistake{"ReportIsADirectory", {"-t", "1", "--report", "/tmp"}, "/tmp"},
        Mistake{"NoSuchCgroup",
                {"-t", "1", "--cgroup", "/sys/fs/cgroup/unified/no-such-cgroup"},
                "no-such-cgroup"},
        Mistake{"NotACgroup", {"-t", "1", "--cgroup", "/tmp"}, "/tmp"},
        Mistake{
            "CgroupV1", {"-t", "1", "--cgroup", "/sys/fs/cgroup/memory"}, "/sys/fs/cgroup/unified"},
        // Everything on the host is in there, procguard too. (A dry run, in case it is not
        // refused.)
        Mistake{"RootCgroup",
                {"-t", "1h", "--dry-run", "--cgroup", "/sys/fs/cgroup/unified"},
                "/sys/fs/cgroup/unified"},
        Mistake{"CgroupWithOtherScope",
                {"-t", "1", "--scope", "process", "--cgroup", "/sys/fs/cgroup/unified/none"},
                "cgroup"}),
    name_of);

TEST(RunUsageCommand, IsNeeded) {
  for (const Strings& argv : {Strings{"run", "-t", "1"}, Strings{"run", "-t", "1", "--"}}) {
    Command command;
    command.argv = {procguard_binary()};
    command.argv.insert(command.argv.end(), argv.begin(), argv.end());
    const Outcome outcome = run(command);
    EXPECT_EQ(outcome.status(), 125) << outcome.describe();
    EXPECT_NE(outcome.err.find("command"), std::string::npos) << outcome.describe();
  }
}

TEST(RunUsageCommand, ItsOwnOptionsAreItsOwn) {
  // With and without "--": the first word that is no option of ours begins the command.
  for (const Strings& argv : {Strings{"run", "-t", "9s", "--", "echo", "-t", "--kill"},
                              Strings{"run", "-t", "9s", "echo", "-t", "--kill"}}) {
    Command command;
    command.argv = {procguard_binary()};
    command.argv.insert(command.argv.end(), argv.begin(), argv.end());
    const Outcome outcome = run(command);
    EXPECT_EQ(outcome.status(), 0) << outcome.describe();
    EXPECT_EQ(outcome.out, "-t --kill\n") << outcome.describe();
  }
}

TEST(RunHelp, ShowsExamples) {
  const Outcome outcome = run({.argv = {procguard_binary(), "run", "--help"}});
  EXPECT_EQ(outcome.status(), 0) << outcome.describe();
  for (const char* text : {"--timeout", "--memory", "--cpu", "--escalate", "--leftovers",
                           "--report", "procguard run"}) {
    EXPECT_NE(outcome.out.find(text), std::string::npos) << text;
  }
  EXPECT_EQ(outcome.err, "");
}

TEST(RunHelp, OutputThatCannotBeWrittenIsAnError) {
  const Outcome outcome =
      run({.argv = {"sh", "-c", procguard_binary() + " run --help > /dev/full"}});
  EXPECT_NE(outcome.status(), 0) << outcome.describe();
}

}  // namespace
}  // namespace procguard::test
