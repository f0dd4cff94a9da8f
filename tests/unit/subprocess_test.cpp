// SPDX-License-Identifier: Apache-2.0
// The helper that the end-to-end tests stand on.
#include "tests/support/subprocess.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <fstream>
#include <string>
#include <thread>

namespace procguard::test {
namespace {

using namespace std::chrono_literals;

TEST(Subprocess, ReportsExitCodesAndOutput) {
  const Outcome outcome = run({.argv = {"sh", "-c", "echo out; echo err >&2; exit 3"}});
  EXPECT_EQ(outcome.exit_code, 3) << outcome.describe();
  EXPECT_EQ(outcome.term_signal, 0);
  EXPECT_EQ(outcome.out, "out\n");
  EXPECT_EQ(outcome.err, "err\n");
  EXPECT_GT(outcome.wall_ns, 0U);
  EXPECT_GT(outcome.usage.ru_maxrss, 0);
}

TEST(Subprocess, ReportsSignals) {
  const Outcome outcome = run({.argv = {"sh", "-c", "kill -TERM $$"}});
  EXPECT_EQ(outcome.term_signal, SIGTERM) << outcome.describe();
  EXPECT_EQ(outcome.exit_code, -1);
  EXPECT_EQ(outcome.status(), 128 + SIGTERM);
}

TEST(Subprocess, SaysWhyAProgramCannotBeStarted) {
  const Outcome outcome = run({.argv = {"/no/such/program"}});
  EXPECT_EQ(outcome.exit_code, -1);
  EXPECT_EQ(outcome.error, "/no/such/program: No such file or directory");
}

TEST(Subprocess, FeedsInputAndTakesLargeOutput) {
  const std::string text(3'000'000, 'x');
  const Outcome outcome = run({.argv = {"cat"}, .input = text});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.error;
  EXPECT_EQ(outcome.out.size(), text.size());
  EXPECT_EQ(run({.argv = {"true"}, .input = text}).exit_code, 0) << "input that nobody reads";
  EXPECT_EQ(run({.argv = {"cat"}}).out, "") << "no input is /dev/null";
}

TEST(Subprocess, SetsEnvironmentDirectoryAndLimits) {
  const Outcome outcome = run({.argv = {"sh", "-c", "echo $A-$HOME-$PWD; ulimit -c; ulimit -n"},
                               .env = {"A=b", "HOME"},
                               .cwd = "/",
                               .limits = {{RLIMIT_NOFILE, {64, 64}}, {RLIMIT_CORE, {0, 0}}}});
  EXPECT_EQ(outcome.out, "b--/\n0\n64\n") << outcome.describe();
}

TEST(Subprocess, KillsWhatOutlivesItsDeadline) {
  Subprocess process(
      {.argv = {"sh", "-c", "trap '' TERM; setsid sleep 1000 & sleep 1000; :"}, .deadline = 300ms});
  EXPECT_TRUE(process.wait().timed_out);
  EXPECT_EQ(process.wait().term_signal, SIGKILL);
  EXPECT_TRUE(wait_for_no_survivors(process.id()).empty());
}

TEST(Subprocess, FindsAndKillsDescendantsWhereverTheyWent) {
  Subprocess process({.argv = {"sh", "-c", "(setsid setsid sleep 1000 &) ; exit 0"}});
  EXPECT_EQ(process.wait().exit_code, 0) << "not held up by a pipe that a descendant has open";
  ASSERT_TRUE(wait_until([&] {  // that what is left is sleep, not a setsid on its way
    const auto left = survivors(process.id());
    std::string comm;
    if (left.size() == 1) {
      std::getline(std::ifstream("/proc/" + std::to_string(left.front()) + "/comm"), comm);
    }
    return comm == "sleep";
  }));
  EXPECT_EQ(kill_survivors(process.id()), 1);
  EXPECT_TRUE(survivors(process.id()).empty());
}

TEST(Subprocess, TalksToARunningProgram) {
  Subprocess process(
      {.argv = {"sh", "-c", "echo ready; read line; echo got $line"}, .hold_input = true});
  ASSERT_TRUE(process.wait_for_output("ready\n"));
  EXPECT_FALSE(process.output().find("got") != std::string::npos);
  process.type("hello\n");
  EXPECT_TRUE(process.wait_for_output("got hello\n"));
  process.close_input();
  EXPECT_EQ(process.wait().exit_code, 0);
  EXPECT_FALSE(process.send(SIGTERM)) << "the pid is not ours any more";
}

TEST(Subprocess, GivesATerminal) {
  Subprocess process(
      {.argv = {"sh", "-c", "tty >/dev/null && echo yes; read x; echo no"}, .terminal = true});
  ASSERT_TRUE(process.wait_for_output("yes"));
  process.type("\x03");
  EXPECT_EQ(process.wait().term_signal, SIGINT) << process.wait().describe();
}

TEST(Subprocess, GivesDefaultSignalsWhateverTheRunnerHas) {
  struct sigaction ignore {};
  struct sigaction before {};
  ignore.sa_handler = SIG_IGN;
  ASSERT_EQ(sigaction(SIGTERM, &ignore, &before), 0);
  const Outcome outcome = run({.argv = {"sh", "-c", "kill -TERM $$; echo alive"}});
  ASSERT_EQ(sigaction(SIGTERM, &before, nullptr), 0);
  EXPECT_EQ(outcome.term_signal, SIGTERM) << outcome.describe();

  const Outcome ignoring = run({.argv = {"sh", "-c", "kill -TERM $$; echo alive"},
                                .before_exec = [] { ::signal(SIGTERM, SIG_IGN); }});
  EXPECT_EQ(ignoring.out, "alive\n");
}

}  // namespace
}  // namespace procguard::test
