// SPDX-License-Identifier: Apache-2.0
// procguard run --source procfs: the same behaviour by polling, less exact in memory and CPU.
#include <gtest/gtest.h>

#include "tests/e2e/guarded_run.h"

namespace procguard::test {
namespace {

Guarded run_procfs(Strings options, const Strings& command) {
  options.insert(options.end(), {"--source", "procfs"});
  return run_guarded(options, command);
}

TEST(RunProcfs, AskedForItIsNoNews) {
  const Guarded guarded = run_procfs({"-t", "20s"}, {"true"});
  EXPECT_EQ(guarded.status(), 0) << guarded.describe();
  EXPECT_EQ(guarded.outcome.err, "") << "nothing weaker than asked for";
  EXPECT_EQ(guarded.report["source"], "procfs");
}

TEST(RunProcfs, Timeout) {
  const Guarded guarded = run_procfs({"-t", "300ms", "--kill", "--step-grace", "100ms"},
                                     {program("sleeper"), "--ignore", "INT,TERM"});
  EXPECT_EQ(guarded.status(), 137) << guarded.describe();
  EXPECT_EQ(guarded.signals(), (Strings{"INT", "TERM", "KILL"})) << guarded.describe();
}

TEST(RunProcfs, MemoryOfAPlateau) {
  const Guarded guarded = run_procfs({"-m", "64M"}, {program("touch"), "128M", "--hold", "30"});
  EXPECT_EQ(guarded.status(), 124) << guarded.describe();
  EXPECT_EQ(guarded.resource(), "memory") << guarded.describe();
  EXPECT_EQ(guarded.report["steps"][0]["by"], "controller") << guarded.describe();
  EXPECT_GE(guarded.report["trip"]["observed"], 64 * kMiB) << guarded.describe();
  EXPECT_LT(guarded.wall_seconds(), 15) << guarded.describe();
}

TEST(RunProcfs, MemoryOfATree) {
  const std::string half = program("touch") + " 40M --hold 20";
  const Guarded guarded =
      run_procfs({"-m", "64M"}, {"sh", "-c", half + " & (setsid " + half + " &); wait"});
  EXPECT_EQ(guarded.status(), 124) << guarded.describe();
  EXPECT_EQ(guarded.resource(), "memory") << guarded.describe();
}

TEST(RunProcfs, MemoryGrowth) {
  const Guarded guarded =
      run_procfs({"--memory-growth", "64M"}, {program("touch"), "128M", "--hold", "30"});
  EXPECT_EQ(guarded.resource(), "memory_growth") << guarded.describe();
}

TEST(RunProcfs, ASpikePassesAndAPlateauDoesNot) {
  const Strings limits = {"--memory", "64M", "--grace", "1s"};
  const Guarded spike =
      run_procfs(limits, {program("touch"), "16M", "--spike", "128M:0.5", "--hold", "0.8"});
  EXPECT_EQ(spike.status(), 0) << spike.describe();
  EXPECT_FALSE(spike.tripped()) << spike.describe();
  const Guarded plateau =
      run_procfs(limits, {program("touch"), "16M", "--spike", "128M:2.5", "--hold", "20"});
  EXPECT_EQ(plateau.status(), 124) << plateau.describe();
}

TEST(RunProcfs, CpuOfThreadsAndProcesses) {
  for (const Strings& arguments : {Strings{"--threads", "4"}, Strings{"--processes", "3"}}) {
    Measured measured;
    Strings command = {program("spin")};
    command.insert(command.end(), arguments.begin(), arguments.end());
    const Guarded guarded = run_procfs({"--cpu", "600ms"}, measured.wrap(command));
    EXPECT_EQ(guarded.status(), 124) << guarded.describe();
    EXPECT_EQ(guarded.resource(), "cpu") << guarded.describe();
    // It looks when the budget can be used up at the earliest, in clock ticks of 10 ms.
    EXPECT_NEAR(measured.cpu_seconds(), 0.6, 0.3) << guarded.describe();
  }
}

TEST(RunProcfs, ASleeperIsNeverTouched) {
  const Guarded guarded =
      run_procfs({"--cpu", "100ms", "-m", "1G"}, {program("sleeper"), "--seconds", "1"});
  EXPECT_EQ(guarded.status(), 0) << guarded.describe();
  EXPECT_FALSE(guarded.tripped()) << guarded.describe();
}

TEST(RunProcfs, ASetsidTreeLeavesNoSurvivor) {
  const Guarded guarded =
      run_procfs({"-t", "1s", "--kill", "--step-grace", "100ms"}, {program("setsid_tree")});
  EXPECT_NE(guarded.outcome.out.find("ready"), std::string::npos) << guarded.describe();
  EXPECT_TRUE(guarded.survivors.empty()) << guarded.describe();
}

TEST(RunProcfs, LeftoversAreKilledAndWaitedFor) {
  const Guarded killed =
      run_procfs({"-t", "30s", "--leftovers", "kill"}, {program("setsid_tree"), "--exit", "5"});
  EXPECT_EQ(killed.status(), 5) << killed.describe();
  EXPECT_TRUE(killed.survivors.empty()) << killed.describe();
  const Guarded waited = run_procfs({"-t", "30s", "--leftovers", "wait"},
                                    {program("setsid_tree"), "--exit", "5", "--seconds", "1"});
  EXPECT_EQ(waited.status(), 5) << waited.describe();
  EXPECT_GE(waited.wall_seconds(), 1.0);
  EXPECT_TRUE(waited.survivors.empty()) << waited.describe();
}

TEST(RunProcfs, ForkBombsThatDoNotIgnoreKillAreEnded) {
  // Without the kernel's help a sweep races with forks; it goes on until none lives.
  for (const char* kind : {"wide", "setsid", "chain"}) {
    const Guarded guarded =
        run_procfs({"-t", "1s", "--kill", "--step-grace", "200ms"},
                   {program("fork_bomb"), "--kind", kind, "--live", "60", "--seconds", "25"});
    EXPECT_TRUE(guarded.survivors.empty()) << kind << guarded.describe();
    EXPECT_LT(guarded.wall_seconds(), 20) << kind << guarded.describe();
  }
}

TEST(RunProcfs, CgroupsAreGuarded) {
  TempCgroup cgroup;
  Subprocess other({.argv = {program("sleeper"), "--exit-on", "INT:3"}});
  ASSERT_TRUE(other.wait_for_output("ready"));
  cgroup.add(other.pid());
  const Guarded guarded = run_procfs({"-t", "500ms", "--cgroup", cgroup.path()}, {"sleep", "20"});
  EXPECT_EQ(guarded.status(), 124) << guarded.describe();
  EXPECT_EQ(other.wait().status(), 3);
}

}  // namespace
}  // namespace procguard::test
