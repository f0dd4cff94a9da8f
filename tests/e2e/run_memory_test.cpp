// SPDX-License-Identifier: Apache-2.0
// procguard run --memory at full speed: how far a command gets over its limit, by the report and by
// getrusage of the process that grew. Where the kernel itself sends the first signal it is a page;
// huge pages and file maps come in larger pieces.
#include <gtest/gtest.h>

#include <iostream>

#include "tests/e2e/guarded_run.h"

namespace procguard::test {
namespace {

constexpr double kLimit = 64 * kMiB;

struct Growth {
  const char* name;
  Strings command;  // of the program `touch`; FILE stands for a file of 1 GiB
  double over_kib;  // how far it may get
};

class RunMemory : public testing::TestWithParam<Growth> {
 protected:
  // The command under `reap` inside the guarded tree: rusage of each of its processes, and nothing
  // of procguard's own.
  Guarded grow(const Strings& options) {
    Strings command = GetParam().command;
    for (std::string& word : command) {
      if (word == "FILE") {
        word = dir_ / "file";
        EXPECT_EQ(run({.argv = {"truncate", "-s", "1G", word}}).status(), 0);
      }
    }
    command.insert(command.begin(), program("touch"));
    Strings all = {"-m", "64M"};
    all.insert(all.end(), options.begin(), options.end());
    return run_guarded(all, measured_.wrap(command));
  }
  double report_over_kib(const Guarded& guarded) {
    return (guarded.usage("peak_rss_bytes") - kLimit) / 1024;
  }
  double rusage_over_kib() { return static_cast<double>(measured_.max_rss_kib()) - kLimit / 1024; }

  TempDir dir_;
  Measured measured_;
};

TEST_P(RunMemory, IsStoppedByTheKernelAtTheLimit) {
  const Guarded guarded = grow({});
  ASSERT_EQ(guarded.status(), 124) << guarded.describe();
  EXPECT_EQ(guarded.resource(), "memory") << guarded.describe();
  EXPECT_EQ(guarded.report["trip"]["limit"], kLimit) << guarded.describe();
  EXPECT_EQ(guarded.report["trip"]["unit"], "bytes") << guarded.describe();
  EXPECT_EQ(guarded.report["source"], "bpf") << guarded.describe();
  EXPECT_EQ(guarded.report["steps"][0]["by"], "kernel") << guarded.describe();
  EXPECT_GT(report_over_kib(guarded), 0) << guarded.describe();
  EXPECT_LE(report_over_kib(guarded), GetParam().over_kib) << guarded.describe();
  EXPECT_LE(rusage_over_kib(), GetParam().over_kib) << guarded.describe();
  EXPECT_EQ(guarded.outcome.out, "") << "it did not survive";
  EXPECT_TRUE(guarded.survivors.empty()) << guarded.describe();
}

INSTANTIATE_TEST_SUITE_P(
    All, RunMemory,
    testing::Values(Growth{"OneThread", {"2G"}, 512}, Growth{"Grandchild", {"2G", "--daemon"}, 512},
                    Growth{"FourThreads", {"2G", "--threads", "4"}, 512},
                    Growth{"FourThreadsOfAGrandchild", {"2G", "--threads", "4", "--daemon"}, 512},
                    Growth{"Shmem", {"2G", "--shmem"}, 512},
                    Growth{"ReadIntoFreshPages", {"2G", "--via", "read"}, 512},
                    Growth{"OneSystemCall", {"2G", "--via", "populate"}, 512},
                    Growth{"HugePages", {"2G", "--huge"}, 512 + 2048},
                    Growth{"FileMap", {"1G", "--file", "FILE"}, 512 + 2048}),
    [](const auto& row) { return std::string(row.param.name); });

using RunMemoryUserSpace = RunMemory;

// Printed, not bounded: with two CPUs busy, user space gets one when the scheduler says so.
TEST_P(RunMemoryUserSpace, OvershootWithoutTheKernelStep) {
  const Guarded guarded = grow({"--grace", "1ms"});
  ASSERT_EQ(guarded.status(), 124) << guarded.describe();
  EXPECT_EQ(guarded.resource(), "memory") << guarded.describe();
  EXPECT_EQ(guarded.report["steps"][0]["by"], "controller") << guarded.describe();
  std::cout << "[ overshoot] " << GetParam().name << ", grace 1ms: " << report_over_kib(guarded)
            << " KiB by the report, " << rusage_over_kib() << " KiB by getrusage\n";
}

INSTANTIATE_TEST_SUITE_P(All, RunMemoryUserSpace,
                         testing::Values(Growth{"OneThread", {"2G"}, 0},
                                         Growth{"FourThreads", {"2G", "--threads", "4"}, 0},
                                         Growth{"HugePages", {"2G", "--huge"}, 0}),
                         [](const auto& row) { return std::string(row.param.name); });

TEST(RunMemoryTree, CountsAllProcessesTogether) {
  // Neither is over 64 MiB alone.
  const std::string both =
      program("touch") + " 40M --hold 20 & " + program("touch") + " 40M --hold 20; wait";
  const Guarded guarded = run_guarded({"-m", "64M"}, {"sh", "-c", both});
  EXPECT_EQ(guarded.status(), 124) << guarded.describe();
  EXPECT_EQ(guarded.resource(), "memory") << guarded.describe();
  EXPECT_LT(guarded.wall_seconds(), 15);
}

TEST(RunMemoryTree, OfScopeProcessIsNotCounted) {
  const Guarded guarded =
      run_guarded({"--scope", "process", "-m", "64M"}, {program("touch"), "128M", "--daemon"});
  EXPECT_EQ(guarded.status(), 0) << guarded.describe();
  EXPECT_FALSE(guarded.tripped()) << guarded.describe();
}

TEST(RunMemoryTree, AnAddressSpaceCountsOnce) {
  const Strings command = {program("clone_vm"), "25M", "25M", "--hold", "0.3"};
  const Guarded within = run_guarded({"-m", "64M"}, command);
  EXPECT_EQ(within.status(), 0) << "50 MiB in two processes that share them\n" << within.describe();
  const Guarded over = run_guarded({"-m", "40M"}, command);
  EXPECT_EQ(over.status(), 124) << over.describe();
}

TEST(RunMemoryTree, ABigParentThatForksALotIsNeverTripped) {
  const Guarded guarded = run_guarded({"-m", "300M"}, {program("fork_exec_storm"), "200M", "1000"},
                                      {.deadline = std::chrono::seconds(120)});
  EXPECT_EQ(guarded.status(), 0) << guarded.describe();
  EXPECT_FALSE(guarded.tripped()) << guarded.describe();
  EXPECT_NE(guarded.outcome.out.find("stormed 1000"), std::string::npos) << guarded.describe();
  EXPECT_LE(guarded.usage("peak_rss_bytes"), 300 * kMiB) << guarded.describe();
  EXPECT_GT(guarded.usage("peak_rss_plain_sum_bytes"), 300 * kMiB)
      << "the plain sum counts a forked child's pages again: the storm was one\n"
      << guarded.describe();
}

TEST(RunMemoryTree, AForkedChildCountsWhatItGrewItself) {
  const Strings small = {program("touch"), "40M", "--fork", "10M", "--hold", "0.3"};
  const Guarded within = run_guarded({"-m", "64M"}, small);
  EXPECT_EQ(within.status(), 0) << "50 MiB, though 90 MiB by the plain sum\n" << within.describe();
  EXPECT_GT(within.usage("peak_rss_plain_sum_bytes"), 85 * kMiB) << within.describe();
  const Strings big = {program("touch"), "40M", "--fork", "40M", "--hold", "20"};
  const Guarded over = run_guarded({"-m", "64M"}, big);
  EXPECT_EQ(over.status(), 124) << over.describe();
}

TEST(RunMemoryExec, ByAThreadThatIsNotTheLeader) {
  const Guarded guarded =
      run_guarded({"-m", "64M"}, {program("exec_by_thread"), "--", program("touch"), "2G"});
  EXPECT_EQ(guarded.status(), 124) << guarded.describe();
  EXPECT_LE(guarded.usage("peak_rss_bytes"), kLimit + 512 * 1024) << guarded.describe();
}

TEST(RunMemoryExec, GivesBackWhatWasTouchedBefore) {
  const Guarded guarded = run_guarded(
      {"-m", "64M"}, {program("touch"), "40M", "--exec", program("touch"), "40M", "--hold", "0.2"});
  EXPECT_EQ(guarded.status(), 0) << guarded.describe();
  EXPECT_FALSE(guarded.tripped()) << guarded.describe();
}

TEST(RunMemoryThreads, GoOnBeingGuardedWhenTheLeaderHasEnded) {
  const Guarded guarded = run_guarded({"-m", "64M"}, {program("leader_exits"), "touch", "2G"});
  EXPECT_EQ(guarded.status(), 124) << guarded.describe();
  EXPECT_LE(guarded.usage("peak_rss_bytes"), kLimit + 512 * 1024) << guarded.describe();
}

TEST(RunMemoryLimits, AboveRamIsAWarning) {
  const Guarded guarded = run_guarded({"-m", "100T"}, {"true"});
  EXPECT_EQ(guarded.status(), 0) << guarded.describe();
  EXPECT_EQ(line_count(guarded.outcome.err), 1) << guarded.describe();
  EXPECT_NE(guarded.outcome.err.find("100"), std::string::npos) << guarded.describe();
}

TEST(RunMemoryLimits, BelowWhatTheProgramNeedsToStartTripsAtOnce) {
  const Guarded guarded = run_guarded({"-m", "64K"}, {"sleep", "20"});
  EXPECT_EQ(guarded.status(), 124) << guarded.describe();
  EXPECT_EQ(guarded.resource(), "memory") << guarded.describe();
  EXPECT_LT(guarded.wall_seconds(), 15);
}

TEST(RunMemoryLimits, SaysWhyInOneLine) {
  const Guarded guarded = run_guarded({"-m", "64M"}, {program("touch"), "2G"});
  EXPECT_EQ(line_count(guarded.outcome.err), 1) << guarded.describe();
  EXPECT_NE(guarded.outcome.err.find("memory"), std::string::npos) << guarded.describe();
  EXPECT_NE(guarded.outcome.err.find("64"), std::string::npos) << guarded.describe();
}

TEST(RunMemoryLimits, PidNamespacesAreSeenThrough) {
  // procguard's pids are not the kernel's own here.
  const Guarded guarded = run_guarded({"-m", "64M"}, {program("touch"), "128M", "--hold", "30"},
                                      {.argv = {"unshare", "--pid", "--fork", "--mount-proc"}});
  EXPECT_EQ(guarded.status(), 124) << guarded.describe();
  EXPECT_EQ(guarded.resource(), "memory") << guarded.describe();
}

}  // namespace
}  // namespace procguard::test
