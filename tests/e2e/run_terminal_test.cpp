// SPDX-License-Identifier: Apache-2.0
// procguard run at a terminal, driven through a real shell with job control: Ctrl-C, Ctrl-\,
// Ctrl-Z, fg, bg, and the terminal given back in the end.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include "tests/e2e/guarded_run.h"

namespace procguard::test {
namespace {

constexpr const char* kCtrlC = "\x03";
constexpr const char* kCtrlBackslash = "\x1c";
constexpr const char* kCtrlZ = "\x1a";

// bash at a terminal of its own. What is typed is echoed, so a text to wait for must not be in the
// line that makes it: `echo st=$?` shows "st=$?" first and "st=7" later.
class Shell {
 public:
  Shell()
      : process_({.argv = {"bash", "--norc", "--noprofile", "-i"},
                  .env = {"PS1=> ", "TERM=dumb", "HISTFILE", "INPUTRC=/dev/null"},
                  .deadline = std::chrono::seconds(40),
                  .terminal = true}) {
    line("set +H; bind 'set enable-bracketed-paste off' 2>/dev/null; echo up$((40 + 2))");
    EXPECT_TRUE(expect("up42"));
  }

  void line(const std::string& text) { process_.type(text + "\n"); }
  void key(const char* key) { process_.type(key); }
  bool expect(const std::string& text) { return process_.wait_for_output(text); }
  const std::string& output() const { return process_.output(); }

  // A live process of this name under the shell; 0 = none.
  pid_t find(const std::string& name) const {
    for (const pid_t pid : survivors(process_.id())) {
      if (proc_status(pid, "Name") == name) {
        return pid;
      }
    }
    return 0;
  }
  // Starts procguard run with `sleeper`; its pid and that of procguard.
  void start(const std::string& options, const std::string& sleeper, const std::string& after) {
    line(procguard_binary() + " run " + options + " -- " + program("sleeper") + " " + sleeper +
         after);
    ASSERT_TRUE(expect("ready ")) << output();
    command = find("sleeper");
    guard = std::atoi(proc_status(command, "PPid").c_str());
    ASSERT_EQ(proc_status(guard, "Name"), "procguard");
  }
  // The shell has its terminal back, in order.
  void expect_alive() {
    line("stty -a | grep -c ' icanon' ; echo alive$((20 + 3))");
    EXPECT_TRUE(expect("alive23")) << output();
  }

  pid_t command = 0;
  pid_t guard = 0;

 private:
  Subprocess process_;
};

TEST(RunTerminal, KeysReachTheCommandOnce) {
  Shell shell;
  shell.start("-t 30s", "--trap INT --exit-on QUIT:7", "; echo st=$?");
  EXPECT_NE(proc_status(shell.command, "NSpgid"), proc_status(shell.guard, "NSpgid"))
      << "with the terminal on stdin the command is the foreground group";
  shell.key(kCtrlC);
  EXPECT_TRUE(shell.expect("got INT from 0")) << "by the terminal itself\n" << shell.output();
  shell.key(kCtrlBackslash);
  EXPECT_TRUE(shell.expect("st=7")) << shell.output();
  EXPECT_EQ(occurrences(shell.output(), "got INT"), 1) << shell.output();
  shell.expect_alive();
}

TEST(RunTerminal, StdinElsewhereIsTheSameGroupAndKeysStillArriveOnce) {
  Shell shell;
  shell.start("-t 30s", "--trap INT --exit-on QUIT:7", " < /dev/null; echo st=$?");
  EXPECT_EQ(proc_status(shell.command, "NSpgid"), proc_status(shell.guard, "NSpgid"));
  shell.key(kCtrlC);
  EXPECT_TRUE(shell.expect("got INT from 0")) << shell.output();
  shell.key(kCtrlBackslash);
  EXPECT_TRUE(shell.expect("st=7")) << shell.output();
  EXPECT_EQ(occurrences(shell.output(), "got INT"), 1) << shell.output();
  shell.expect_alive();
}

TEST(RunTerminal, CtrlZStopsBothAndFgContinuesBoth) {
  Shell shell;
  shell.start("-t 30s", "--exit-on QUIT:7", "");
  shell.key(kCtrlZ);
  EXPECT_TRUE(shell.expect("Stopped")) << shell.output();
  EXPECT_TRUE(wait_until(
      [&] { return process_state(shell.command) == 'T' && process_state(shell.guard) == 'T'; }));
  shell.line("fg; echo st=$?");
  EXPECT_TRUE(wait_until([&] {
    return process_state(shell.command) == 'S' && process_state(shell.guard) == 'S';
  })) << shell.output();
  shell.key(kCtrlBackslash);
  EXPECT_TRUE(shell.expect("st=7")) << shell.output();
  shell.expect_alive();
}

TEST(RunTerminal, CtrlZManyTimes) {
  Shell shell;
  shell.start("-t 30s", "--exit-on QUIT:7", "");
  for (int i = 0; i < 5; ++i) {
    shell.key(kCtrlZ);
    ASSERT_TRUE(wait_until([&] {
      return process_state(shell.command) == 'T' && process_state(shell.guard) == 'T';
    })) << i
        << shell.output();
    shell.line("echo round$((100 + " + std::to_string(i) + "))");
    ASSERT_TRUE(shell.expect("round10" + std::to_string(i))) << shell.output();
    shell.line("fg; echo st=$?");
    ASSERT_TRUE(wait_until([&] {
      return process_state(shell.command) == 'S' && process_state(shell.guard) == 'S';
    })) << i
        << shell.output();
  }
  shell.key(kCtrlBackslash);
  EXPECT_TRUE(shell.expect("st=7")) << shell.output();
  shell.expect_alive();
}

TEST(RunTerminal, InTheBackgroundAfterBg) {
  Shell shell;
  shell.start("-t 30s", "--exit-on USR1:7", "");
  shell.key(kCtrlZ);
  EXPECT_TRUE(shell.expect("Stopped")) << shell.output();
  shell.line("bg; echo bg$((40 + 1))");
  EXPECT_TRUE(shell.expect("bg41")) << shell.output();
  EXPECT_TRUE(wait_until([&] { return process_state(shell.command) == 'S'; })) << shell.output();
  shell.expect_alive();
  shell.line("kill -USR1 %1; wait %1; echo st=$?");
  EXPECT_TRUE(shell.expect("st=7")) << shell.output();
}

TEST(RunTerminal, StartedInTheBackgroundItLeavesTheTerminalAlone) {
  Shell shell;
  shell.start("-t 30s", "--exit-on USR1:7", " &");
  shell.expect_alive();
  EXPECT_EQ(process_state(shell.guard), 'S');
  shell.line("kill -USR1 %1; wait %1; echo st=$?");
  EXPECT_TRUE(shell.expect("st=7")) << shell.output();
}

TEST(RunTerminal, OverdueStepsBeginWhenItContinues) {
  Shell shell;
  shell.start("-t 3s", "--trap USR1", "");
  shell.key(kCtrlZ);
  EXPECT_TRUE(shell.expect("Stopped")) << shell.output();
  // The time stopped counts; nothing happens before it goes on.
  EXPECT_FALSE(wait_until([&] { return process_state(shell.command) != 'T'; },
                          std::chrono::milliseconds(3200)));
  shell.line("fg; echo st=$?");
  EXPECT_TRUE(shell.expect("st=124")) << shell.output();
  EXPECT_EQ(occurrences(shell.output(), "timeout of 3s"), 1) << shell.output();
  shell.expect_alive();
}

TEST(RunTerminal, TheCommandMayReadIt) {
  Shell shell;
  shell.line(procguard_binary() +
             " run -t 30s -- sh -c 'echo ask$((4+4)); read x; echo \"got <$x>\"'; "
             "echo st=$?");
  ASSERT_TRUE(shell.expect("ask8")) << shell.output();
  shell.line("hello");
  EXPECT_TRUE(shell.expect("got <hello>")) << shell.output();
  EXPECT_TRUE(shell.expect("st=0")) << shell.output();
  shell.expect_alive();
}

TEST(RunTerminal, AnInteractiveShellUnderItHasJobControl) {
  Shell shell;
  shell.line(procguard_binary() + " run -t 30s -- bash --norc --noprofile -i; echo st=$?");
  shell.line("PS1='inner> '; sleep 20; echo sl=$?");
  ASSERT_TRUE(wait_until([&] { return shell.find("sleep") != 0; })) << shell.output();
  shell.key(kCtrlZ);
  EXPECT_TRUE(shell.expect("Stopped")) << shell.output();
  shell.line("kill -KILL %1");
  EXPECT_TRUE(wait_until([&] { return shell.find("sleep") == 0; })) << shell.output();
  shell.line("jobs; exit 9");
  EXPECT_TRUE(shell.expect("st=9")) << shell.output();
  shell.expect_alive();
}

TEST(RunTerminal, AfterATimeoutItIsGivenBack) {
  Shell shell;
  for (const char* options : {"-t 300ms", "-t 300ms --kill --step-grace 100ms", "-m 1M -t 300ms"}) {
    shell.line(procguard_binary() + " run " + options + " -- sleep 20; echo \"st=$? after\" " +
               "'" + options + "'");
    ASSERT_TRUE(shell.expect(std::string("st=124 after ") + options)) << shell.output();
  }
  shell.expect_alive();
}

TEST(RunTerminal, InAPipelineAndAScriptItWorks) {
  Shell shell;
  shell.line("echo one two | " + procguard_binary() +
             " run -t 30s -- tr a-z A-Z | cat; echo st=${PIPESTATUS[1]}");
  EXPECT_TRUE(shell.expect("ONE TWO")) << shell.output();
  EXPECT_TRUE(shell.expect("st=0")) << shell.output();
  shell.line("sh -c '" + procguard_binary() + " run -t 30s -- sh -c \"exit 6\"; echo script=$?'");
  EXPECT_TRUE(shell.expect("script=6")) << shell.output();
  shell.expect_alive();
}

}  // namespace
}  // namespace procguard::test
