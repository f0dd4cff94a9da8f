// SPDX-License-Identifier: Apache-2.0
// procguard run --cgroup: the command starts there, and everything in it and below is guarded.
#include <gtest/gtest.h>
#include <signal.h>

#include "tests/e2e/guarded_run.h"

namespace procguard::test {
namespace {

const Strings kQuick = {"--kill", "--step-grace", "100ms"};

Strings operator+(Strings left, const Strings& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

// A process that is in the cgroup and has nothing to do with the guarded command.
class Stranger {
 public:
  Stranger(const std::string& cgroup, const Strings& command) : process_({.argv = command}) {
    EXPECT_TRUE(process_.wait_for_output("ready"));
    write_text(cgroup + "/cgroup.procs", std::to_string(process_.pid()));
  }
  Subprocess& process() { return process_; }

 private:
  Subprocess process_;
};

TEST(RunCgroup, TheCommandStartsThere) {
  TempCgroup cgroup;
  const Guarded guarded =
      run_guarded({"-t", "20s", "--cgroup", cgroup.path()}, {"grep", "^0::", "/proc/self/cgroup"});
  EXPECT_EQ(guarded.status(), 0) << guarded.describe();
  const std::string name = cgroup.path().substr(cgroup.path().rfind('/'));
  EXPECT_EQ(guarded.outcome.out, "0::" + name + "\n") << guarded.describe();
}

TEST(RunCgroup, EverythingInItAndBelowIsEnded) {
  TempCgroup cgroup;
  const std::string below = cgroup.make_child("below");
  Stranger polite(cgroup.path(), {program("sleeper"), "--exit-on", "INT:3"});
  Stranger stubborn(below, {program("sleeper"), "--ignore", "INT,TERM"});
  const Guarded guarded = run_guarded(Strings{"-t", "500ms", "--cgroup", cgroup.path()} + kQuick,
                                      {program("setsid_tree")});
  EXPECT_EQ(guarded.status(), 137) << guarded.describe();
  EXPECT_TRUE(cgroup.members().empty()) << guarded.describe();
  EXPECT_EQ(polite.process().wait().status(), 3);
  EXPECT_EQ(stubborn.process().wait().status(), 137);
}

TEST(RunCgroup, OthersAreLeftAlone) {
  TempCgroup cgroup;
  Subprocess outside({.argv = {program("sleeper"), "--trap", "INT,TERM", "--exit-on", "USR1:4"}});
  ASSERT_TRUE(outside.wait_for_output("ready"));
  const Guarded guarded =
      run_guarded(Strings{"-t", "300ms", "--cgroup", cgroup.path()} + kQuick, {"sleep", "20"});
  EXPECT_EQ(guarded.status(), 124) << guarded.describe();
  outside.send(SIGUSR1);
  EXPECT_EQ(outside.wait().status(), 4);
  EXPECT_EQ(occurrences(outside.output(), "got"), 1) << outside.output();
}

TEST(RunCgroup, MemoryIsCountedOverAll) {
  TempCgroup cgroup;
  Subprocess held({.argv = {program("touch"), "48M", "--hold", "30"}});
  ASSERT_TRUE(wait_until([&] {
    const std::string rss = proc_status(held.pid(), "VmRSS");
    return !rss.empty() && std::stol(rss) > 48L * 1024;
  }));
  cgroup.add(held.pid());  // tasks that are there before the guard
  const Guarded guarded = run_guarded(Strings{"-m", "64M", "--cgroup", cgroup.path()} + kQuick,
                                      {program("touch"), "32M", "--hold", "30"});
  EXPECT_EQ(guarded.status(), 124) << guarded.describe();
  EXPECT_EQ(guarded.resource(), "memory") << guarded.describe();
  EXPECT_EQ(held.wait().status(), 130) << "it is a member like the command";
}

TEST(RunCgroup, WhoMovesInCounts) {
  TempCgroup cgroup;
  Subprocess big({.argv = {program("touch"), "100M", "--hold", "30"}});
  ASSERT_TRUE(wait_until([&] {
    const std::string rss = proc_status(big.pid(), "VmRSS");
    return !rss.empty() && std::stol(rss) > 100L * 1024;
  }));
  GuardedRun run(Strings{"-m", "64M", "--cgroup", cgroup.path()} + kQuick, {program("sleeper")});
  ASSERT_TRUE(run.process().wait_for_output("ready"));
  cgroup.add(big.pid());
  const Guarded guarded = run.wait();
  EXPECT_EQ(guarded.status(), 124) << guarded.describe();
  EXPECT_EQ(guarded.resource(), "memory") << guarded.describe();
  EXPECT_TRUE(cgroup.members().empty());
}

TEST(RunCgroup, WhoMovesOutDoesNot) {
  TempCgroup cgroup;
  GuardedRun run(Strings{"-m", "64M", "--grace", "2s", "--cgroup", cgroup.path()},
                 {program("touch"), "128M", "--hold", "3.5"});
  ASSERT_TRUE(wait_until([&] {
    const auto members = cgroup.members();
    return !members.empty() && std::atol(proc_status(members[0], "VmRSS").c_str()) > 128L * 1024;
  }));
  TempCgroup elsewhere;
  elsewhere.add(cgroup.members()[0]);
  const Guarded guarded = run.wait();
  EXPECT_EQ(guarded.status(), 0) << guarded.describe();
  EXPECT_FALSE(guarded.tripped()) << guarded.describe();
}

TEST(RunCgroup, ChildrenBelowAreCounted) {
  TempCgroup cgroup;
  const std::string below = cgroup.make_child("below");
  const std::string script =
      "echo $$ > " + below + "/cgroup.procs; exec " + program("touch") + " 2G";
  const Guarded guarded =
      run_guarded({"-m", "64M", "--cgroup", cgroup.path()}, {"sh", "-c", script});
  EXPECT_EQ(guarded.status(), 124) << guarded.describe();
  EXPECT_EQ(guarded.resource(), "memory") << guarded.describe();
  EXPECT_LE(guarded.usage("peak_rss_bytes"), 64 * kMiB + 512 * 1024) << guarded.describe();
}

TEST(RunCgroup, CpuIsCountedOverAll) {
  TempCgroup cgroup;
  Subprocess spinner({.argv = {program("spin"), "--seconds", "30"}});
  ASSERT_TRUE(spinner.started());
  cgroup.add(spinner.pid());
  const Guarded guarded =
      run_guarded(Strings{"--cpu", "300ms", "--cgroup", cgroup.path()} + kQuick, {"sleep", "20"});
  EXPECT_EQ(guarded.status(), 124) << guarded.describe();
  EXPECT_EQ(guarded.resource(), "cpu") << guarded.describe();
  EXPECT_EQ(spinner.wait().status(), 130);
}

TEST(RunCgroup, FrozenMembersAreKilledAllTheSame) {
  TempCgroup cgroup;
  GuardedRun run({"-t", "1s", "--escalate", "INT:300ms,KILL", "--cgroup", cgroup.path()},
                 {program("sleeper"), "--trap", "INT"});  // deadly signals end frozen ones, too
  ASSERT_TRUE(run.process().wait_for_output("ready"));
  write_text(cgroup.path() + "/cgroup.freeze", "1");
  const Guarded guarded = run.wait();
  EXPECT_EQ(guarded.status(), 137) << guarded.describe();
  EXPECT_EQ(guarded.results(), (Strings{"pending", "sent"})) << guarded.describe();
  EXPECT_TRUE(cgroup.members().empty()) << guarded.describe();
}

TEST(RunCgroup, OneThatIsRemovedReleasesTheGuard) {
  TempCgroup cgroup;
  TempCgroup elsewhere;
  GuardedRun run({"-t", "1s", "--cgroup", cgroup.path()},
                 {program("sleeper"), "--trap", "INT,TERM", "--seconds", "2"});
  ASSERT_TRUE(run.process().wait_for_output("ready"));
  for (const pid_t pid : cgroup.members()) {
    elsewhere.add(pid);
  }
  cgroup.remove();
  const Guarded guarded = run.wait();
  EXPECT_EQ(guarded.status(), 0) << guarded.describe();
  EXPECT_FALSE(guarded.tripped()) << guarded.describe();
  EXPECT_EQ(guarded.outcome.out.find("got"), std::string::npos) << guarded.describe();
}

TEST(RunCgroup, OneThatHoldsProcguardItselfIsRefused) {
  TempCgroup cgroup;
  const std::string script = "echo $$ > " + cgroup.path() + "/cgroup.procs; exec " +
                             procguard_binary() + " run -t 1h --dry-run --cgroup " + cgroup.path() +
                             " -- echo started";
  const Outcome outcome = run({.argv = {"sh", "-c", script}});
  EXPECT_EQ(outcome.status(), 125) << outcome.describe();
  EXPECT_EQ(outcome.out, "") << outcome.describe();
}

}  // namespace
}  // namespace procguard::test
