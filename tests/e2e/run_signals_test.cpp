// SPDX-License-Identifier: Apache-2.0
// Signals that are sent to procguard run itself, its own end, and its being PID 1.
#include <gtest/gtest.h>
#include <signal.h>

#include "tests/e2e/guarded_run.h"

namespace procguard::test {
namespace {

const Strings kWitness = {program("sleeper"), "--trap", "INT,TERM,HUP,QUIT,USR1", "--exit-on",
                          "USR2:7"};

std::string got(int signal) {
  return std::string("got ") + sigabbrev_np(signal) + " ";
}

class RunForwards : public testing::TestWithParam<int> {};

TEST_P(RunForwards, OnceToTheCommand) {
  GuardedRun run({"-t", "30s"}, kWitness);
  ASSERT_TRUE(run.process().wait_for_output("ready"));
  run.process().send(GetParam());
  ASSERT_TRUE(run.process().wait_for_output(got(GetParam())));
  run.process().send(SIGUSR2);  // passed on in order: a second one would come before it
  const Guarded guarded = run.wait();
  EXPECT_EQ(guarded.status(), 7) << guarded.describe();
  EXPECT_EQ(occurrences(guarded.outcome.out, "got "), 2) << guarded.describe();
  EXPECT_FALSE(guarded.tripped()) << guarded.describe();
}

TEST_P(RunForwards, NothingThatTheWholeGroupGot) {
  GuardedRun run({"-t", "30s"}, kWitness);
  ASSERT_TRUE(run.process().wait_for_output("ready"));
  // The command is in run's group, and the group is its own session's: nobody else is in it.
  ASSERT_EQ(::kill(-run.process().pid(), GetParam()), 0);
  ASSERT_TRUE(run.process().wait_for_output(got(GetParam())));
  run.process().send(SIGUSR2);
  const Guarded guarded = run.wait();
  EXPECT_EQ(guarded.status(), 7) << guarded.describe();
  EXPECT_EQ(occurrences(guarded.outcome.out, got(GetParam())), 1) << guarded.describe();
}

TEST_P(RunForwards, AndTheCommandMayEndByIt) {
  GuardedRun run({"-t", "30s"}, {program("sleeper")});
  ASSERT_TRUE(run.process().wait_for_output("ready"));
  run.process().send(GetParam());
  const Guarded guarded = run.wait();
  EXPECT_EQ(guarded.status(), 128 + GetParam()) << guarded.describe();
  EXPECT_FALSE(guarded.tripped()) << guarded.describe();
}

INSTANTIATE_TEST_SUITE_P(All, RunForwards,
                         testing::Values(SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1),
                         [](const auto& row) { return std::string(sigabbrev_np(row.param)); });

TEST(RunSignals, ThatWereIgnoredStayIgnored) {
  // As nohup does it.
  Command command;
  command.before_exec = [] { ::signal(SIGHUP, SIG_IGN); };
  GuardedRun run({"-t", "30s"}, {"sh", "-c", "echo ready; sleep 1; exit 5"}, command);
  ASSERT_TRUE(run.process().wait_for_output("ready"));
  ASSERT_EQ(::kill(-run.process().pid(), SIGHUP), 0);
  EXPECT_EQ(run.wait().status(), 5);
}

TEST(RunSignals, WhenStoppedOverdueStepsBeginWhenItContinues) {
  GuardedRun run({"-t", "500ms"},
                 {program("sleeper"), "--trap", "INT,USR1", "--exit-on", "TERM:0"});
  ASSERT_TRUE(run.process().wait_for_output("ready"));
  const auto command = child_named(run.process().pid(), "sleeper");
  run.process().send(SIGSTOP);
  ASSERT_TRUE(wait_until([&] { return process_state(run.process().pid()) == 'T'; }));
  // The time passes; nobody is there to begin the ladder.
  wait_until([] { return false; }, std::chrono::milliseconds(800));
  ::kill(command, SIGUSR1);
  ASSERT_TRUE(run.process().wait_for_output("got USR1"));
  EXPECT_EQ(occurrences(run.process().output(), "got INT"), 0);
  run.process().send(SIGCONT);
  EXPECT_TRUE(run.process().wait_for_output("got INT"));
  run.process().send(SIGTERM);
  EXPECT_EQ(run.wait().status(), 124);
}

TEST(RunKilled, LeavesTheCommandToItself) {
  GuardedRun run({"-t", "1s", "--kill", "--step-grace", "50ms"},
                 {program("sleeper"), "--trap", "INT,TERM", "--seconds", "2"});
  ASSERT_TRUE(run.process().wait_for_output("ready"));
  const std::string id = run.process().id();
  run.process().send(SIGKILL);
  EXPECT_EQ(run.process().wait().term_signal, SIGKILL);
  EXPECT_EQ(survivors(id).size(), 1U) << "the command, and no helper of procguard's";
  // Its limit passes; nobody enforces it, and it ends by itself.
  EXPECT_FALSE(wait_until([&] { return survivors(id).empty(); }, std::chrono::milliseconds(1200)));
}

TEST(RunKilled, BeforeTheCommandStartedStartsNothing) {
  // However early it dies, a command that was held is never let go unguarded.
  for (int delay_ms = 0; delay_ms < 60; delay_ms += 4) {
    TempDir dir;
    Subprocess process({.argv = {procguard_binary(), "run", "-t", "30s", "--", "sh", "-c",
                                 "echo started > " + (dir / "out") + "; exec sleep 20"}});
    wait_until([] { return false; }, std::chrono::milliseconds(delay_ms));
    process.send(SIGKILL);
    process.wait();
    // Either it runs by now (it had been let go) or it never will.
    EXPECT_TRUE(wait_until([&] {
      return survivors(process.id()).empty() || !read_text(dir / "out").empty();
    })) << delay_ms;
    EXPECT_LE(survivors(process.id()).size(), 1U) << delay_ms;
  }
}

TEST(RunAsInit, ReapsEveryOrphan) {
  // Twenty orphans end; then only init, its helper and the command itself are in /proc.
  const std::string script = R"(
    for i in $(seq 20); do (sleep 0.3 &) ; done
    set -- /proc/[0-9]*; echo before $#
    for t in $(seq 200); do
      set -- /proc/[0-9]*; [ $# -le 3 ] && { echo clean; exit 0; }
      sleep 0.05
    done
    grep -H State /proc/[0-9]*/status; exit 1)";
  for (const char* source : {"auto", "procfs"}) {
    const Guarded guarded = run_guarded({"-t", "30s", "--source", source}, {"bash", "-c", script},
                                        {.argv = {"unshare", "--pid", "--fork", "--mount-proc"}});
    EXPECT_EQ(guarded.status(), 0) << source << guarded.describe();
    EXPECT_NE(guarded.outcome.out.find("clean"), std::string::npos) << guarded.describe();
    EXPECT_EQ(guarded.outcome.out.find("before 3\n"), std::string::npos) << guarded.describe();
  }
}

TEST(RunAsInit, GuardsTheTreeInItsNamespace) {
  for (const char* source : {"auto", "procfs"}) {
    const Guarded guarded = run_guarded(
        {"-t", "700ms", "--kill", "--step-grace", "100ms", "--source", source},
        {program("setsid_tree")}, {.argv = {"unshare", "--pid", "--fork", "--mount-proc"}});
    EXPECT_EQ(guarded.resource(), "timeout") << source << guarded.describe();
    EXPECT_TRUE(guarded.status() == 124 || guarded.status() == 137) << guarded.describe();
    EXPECT_TRUE(guarded.survivors.empty()) << guarded.describe();
  }
}

TEST(RunAsInit, ForwardsTerm) {
  GuardedRun run({"-t", "30s"}, {program("sleeper"), "--exit-on", "TERM:9"},
                 {.argv = {"unshare", "--pid", "--fork", "--mount-proc"}});
  ASSERT_TRUE(run.process().wait_for_output("ready"));
  const auto init = child_processes(run.process().pid());
  ASSERT_EQ(init.size(), 1U);
  ::kill(init[0], SIGTERM);
  EXPECT_EQ(run.wait().status(), 9);
}

}  // namespace
}  // namespace procguard::test
