// SPDX-License-Identifier: Apache-2.0
// What POSIX.1-2024 and GNU coreutils up to 9.10 have changed after the GNU timeout that Debian 12
// installs: expected values instead of a comparison. And what is our own: --help, --version.
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <iterator>
#include <map>
#include <ostream>

#include "tests/e2e/timeout_runner.h"

namespace procguard::test {
namespace {

// No child of the shell lives long: one that is just being forked may not act on a signal yet.
const std::string kLoop = "while :; do sleep .05; done";

// A shell's $?, what it prints, and how many survive.
struct Expected {
  int status = 0;
  std::string out = {};
  std::string err = {};
  size_t survivors = 0;
};

struct Row {
  const char* name;
  TimeoutRun run;
  Expected expected;
};

void PrintTo(const Row& row, std::ostream* out) {
  *out << row.name;
}

using Args = std::vector<std::string>;

// Once the command has said that it is ready, the wrapper gets the signal.
TimeoutRun at_ready(int signal, Args before, const std::string& script) {
  before.insert(before.end(), {"sh", "-c", script});
  return {.args = std::move(before), .when_ready = signal};
}

// The command answers `signal` with "got N" and status 7.
TimeoutRun answering(int answered, int sent, Args before = {"50"},
                     std::function<void()> before_exec = {}) {
  before.insert(before.end(), {program("timeout_command"), "exit", std::to_string(answered)});
  return {.args = std::move(before), .when_ready = sent, .before_exec = std::move(before_exec)};
}

std::string got(int signal) {
  return "ready\ngot " + std::to_string(signal) + "\n";
}

Row passed_on(const char* name, int signal) {
  return {name, answering(signal, signal), {.status = 7, .out = got(signal)}};
}

const Row kRows[] = {
    // Short forms.
    {"short_preserve_status", {.args = {"-p", ".05", "sleep", "100"}}, {.status = 143}},
    {"short_foreground",
     at_ready(SIGALRM, {"-f", "50"}, "sleep 100 & sleep 100 & echo ready; wait"),
     {.status = 124, .out = "ready\n", .survivors = 2}},
    {"short_together",
     {.args = {"-fpvs", "HUP", ".05", "sleep", "100"}},
     {.status = 129, .err = "timeout: sending signal HUP to command 'sleep'\n"}},
    // A duration that floating point rounds to 0 is a limit all the same.
    {"infinitesimal_duration", {.args = {"1e-5000", "sleep", "100"}}, {.status = 124}},
    {"infinitesimal_kill_after",
     at_ready(SIGALRM, {"-fk", "1e-5000", "50"}, "trap '' TERM; echo ready; " + kLoop),
     {.status = 137, .out = "ready\n"}},
    // Signal 0 has no name.
    {"verbose_signal_0",
     {.args = {"-v", "-f", "-s", "0", "-k", ".05", ".05", "sleep", "100"}},
     {.status = 137,
      .err = "timeout: sending signal 0 to command 'sleep'\n"
             "timeout: sending signal KILL to command 'sleep'\n"}},
    {"verbose_EXIT",
     {.args = {"-v", "-f", "-s", "EXIT", "-k", ".05", ".05", "sleep", "100"}},
     {.status = 137,
      .err = "timeout: sending signal 0 to command 'sleep'\n"
             "timeout: sending signal KILL to command 'sleep'\n"}},
    // All that ends a process is passed on, not only what a terminal sends.
    passed_on("passes_on_USR1", SIGUSR1),
    passed_on("passes_on_USR2", SIGUSR2),
    passed_on("passes_on_PIPE", SIGPIPE),
    passed_on("passes_on_ABRT", SIGABRT),
    passed_on("passes_on_XCPU", SIGXCPU),
    passed_on("passes_on_POLL", SIGPOLL),
    passed_on("passes_on_PWR", SIGPWR),
    passed_on("passes_on_real_time", SIGRTMIN + 1),
    {"ends_by_what_it_passes_on",
     at_ready(SIGUSR1, {"50"}, "echo ready; exec sleep 100"),
     {128 + SIGUSR1, "ready\n"}},
    {"KILL_follows_what_it_passes_on",
     at_ready(SIGUSR1, {"-f", "-v", "-k", ".05", "50"}, "trap '' USR1; echo ready; " + kLoop),
     {.status = 137,
      .out = "ready\n",
      .err = "timeout: sending signal USR1 to command 'sh'\n"
             "timeout: sending signal KILL to command 'sh'\n"}},
    {"WINCH_is_not_passed_on", answering(SIGWINCH, SIGWINCH, {".5"}), {124, "ready\n"}},
    // What was ignored stays ignored, here and in the command.
    {"ignored_INT_and_QUIT_in_the_command",
     {.args = {"5", "grep", "SigIgn", "/proc/self/status"},
      .before_exec =
          [] {
            ::signal(SIGINT, SIG_IGN);
            ::signal(SIGQUIT, SIG_IGN);
            ::signal(SIGHUP, SIG_IGN);
          }},
     {.out = "SigIgn:\t0000000000000007\n"}},
    {"ignored_INT_is_not_passed_on",
     answering(SIGINT, SIGINT, {".5"}, [] { ::signal(SIGINT, SIG_IGN); }),
     {124, "ready\n"}},
    {"ignored_HUP_as_with_nohup",
     answering(SIGHUP, SIGHUP, {".5"}, [] { ::signal(SIGHUP, SIG_IGN); }),
     {124, "ready\n"}},
    {"ignored_TERM_to_send_is_default_in_the_command",
     {.args = {"5", "grep", "SigIgn", "/proc/self/status"},
      .before_exec = [] { ::signal(SIGTERM, SIG_IGN); }},
     {.out = "SigIgn:\t0000000000000000\n"}},
    {"ignored_TERM_is_passed_on_as_the_signal_to_send",
     answering(SIGTERM, SIGTERM, {"50"}, [] { ::signal(SIGTERM, SIG_IGN); }),
     {7, got(SIGTERM)}},
    // The command does not outlive a wrapper that was killed.
    {"killed_wrapper_TERM",
     at_ready(SIGKILL, {"50"}, "echo ready; exec sleep 100"),
     {137, "ready\n"}},
    {"killed_wrapper_own_signal",
     at_ready(SIGKILL, {"-s", "USR2", "50"}, "trap '' TERM; echo ready; exec sleep 100"),
     {137, "ready\n"}},
    {"killed_wrapper_without_limit",
     at_ready(SIGKILL, {"0"}, "echo ready; exec sleep 100"),
     {137, "ready\n"}},
    {"killed_wrapper_in_foreground",
     at_ready(SIGKILL, {"-f", "0"}, "echo ready; exec sleep 100"),
     {137, "ready\n"}},
    {"killed_wrapper_without_a_signal",
     at_ready(SIGKILL, {"-s", "0", "50"}, "echo ready; exec sleep 100"),
     {.status = 137, .out = "ready\n", .survivors = 1}},
    // A log that could not be written is told in the status, and timing out comes first.
    {"verbose_to_a_full_disk",
     {.args = {"-v", ".05", "sleep", "100"}, .script = "exec \"$@\" 2>/dev/full"},
     {124}},
    {"verbose_to_nowhere",
     {.args = {"-v", ".05", "sleep", "100"}, .script = "exec \"$@\" 2>&-"},
     {124}},
    {"verbose_to_a_broken_pipe",
     {.args = {"-v", "-p", ".2", "sleep", "100"},
      .script = "exec 3>&1; { \"$@\" 2>&1 >/dev/null; echo status $? >&3; } | :"},
     {.out = "status 124\n"}},
    {"verbose_in_foreground_to_a_broken_pipe",
     {.args = {"-f", "-v", "-k", ".1", ".2", "sh", "-c", "trap '' TERM PIPE; " + kLoop},
      .script = "exec 3>&1; { \"$@\" 2>&1 >/dev/null; echo status $? >&3; } | :"},
     {.out = "status 124\n"}},
    {"not_found_to_a_full_disk",
     {.args = {"5", "no-such-command-here"}, .script = "exec \"$@\" 2>/dev/full"},
     {125}},
    {"help_to_a_full_disk",
     {.args = {"--help"}, .script = "exec \"$@\" >/dev/full"},
     {.status = 125, .err = "timeout: write error: No space left on device\n"}},
};

class TimeoutNewest : public testing::TestWithParam<Row> {};

TEST_P(TimeoutNewest, IsAsExpected) {
  const Row& row = GetParam();
  for (Timeout which : kOurTimeouts) {
    const TimeoutOutcome ours = run_timeout(which, row.run, row.expected.survivors);
    SCOPED_TRACE(testing::Message() << which << ": " << ours.outcome.describe());
    EXPECT_EQ(ours.outcome.error, "");
    EXPECT_EQ(ours.outcome.status(), row.expected.status);
    EXPECT_EQ(ours.outcome.out, row.expected.out);
    EXPECT_EQ(ours.outcome.err, row.expected.err);
    EXPECT_EQ(ours.survivors, row.expected.survivors);
    EXPECT_FALSE(ours.outcome.timed_out);
  }
}

INSTANTIATE_TEST_SUITE_P(Timeout, TimeoutNewest, testing::ValuesIn(kRows),
                         [](const testing::TestParamInfo<Row>& row) { return row.param.name; });

TEST(Timeout, TellsOfItselfOnRequest) {
  for (Timeout which : kOurTimeouts) {
    const Outcome help = run_timeout(which, {.args = {"--help"}}).outcome;
    EXPECT_EQ(help.exit_code, 0);
    EXPECT_EQ(help.err, "");
    for (const char* part : {"Usage: ", "DURATION COMMAND", "-f, --foreground", "-k, --kill-after",
                             "-p, --preserve-status", "-s, --signal", "-v, --verbose", "--version",
                             "124", "125", "126", "127", "137", "Examples:"}) {
      EXPECT_NE(help.out.find(part), std::string::npos) << part << "\n" << help.out;
    }
    const Outcome version = run_timeout(which, {.args = {"--version"}}).outcome;
    EXPECT_EQ(version.exit_code, 0);
    EXPECT_EQ(version.out.find("timeout (procguard) "), 0U) << version.out;
    EXPECT_EQ(run_timeout(which, {.args = {"--vers"}}).outcome.out, version.out);
  }
}

// The first signal is passed on, the second of its kind is not: the group is signalled as well, so
// it may be the first one that comes back from a shell or a nested timeout.
TEST(Timeout, PassesOnEachSignalOnce) {
  for (Timeout which : kAllTimeouts) {
    Subprocess process(timeout_command(
        which, {.args = {"50", program("timeout_command"), "say", std::to_string(SIGHUP), "exit",
                         std::to_string(SIGTERM)}}));
    ASSERT_TRUE(process.wait_for_output("ready\n"));
    process.send(SIGHUP);
    ASSERT_TRUE(process.wait_for_output("got 1\n")) << which << process.wait().describe();
    process.send(SIGHUP);
    process.send(SIGTERM);
    const TimeoutOutcome result = finish_timeout(process);
    EXPECT_EQ(result.outcome.status(), 7) << which << result.outcome.describe();
    EXPECT_NE(result.outcome.out.find("got 15\n"), std::string::npos) << which;
  }
}

// A command that ended while the wrapper was stopped keeps its status, whatever signals wait.
TEST(Timeout, DoesNotTakeALateSignalForTheEnd) {
  for (Timeout which : kAllTimeouts) {
    Command command =
        timeout_command(which, {.args = {"50", "sh", "-c", "echo $$ ready; read x; exit 5"}});
    command.hold_input = true;
    Subprocess process(command);
    ASSERT_TRUE(process.wait_for_output("ready\n")) << which;
    const auto child = static_cast<pid_t>(std::stol(process.output()));
    process.send(SIGSTOP);
    ASSERT_TRUE(wait_until([&] { return process_state(process.pid()) == 'T'; }));
    process.close_input();
    ASSERT_TRUE(wait_until([&] { return process_state(child) == 'Z'; }));
    process.send(SIGTERM);
    process.send(SIGCONT);
    EXPECT_EQ(process.wait().status(), 5) << which << process.wait().describe();
  }
}

TEST(Timeout, TellsOfACoreDump) {
  char directory[] = "/tmp/procguard-test-core-XXXXXX";
  ASSERT_NE(::mkdtemp(directory), nullptr);
  // Sanitizers forbid core dumps by default.
  const TimeoutRun run{
      .args = {"50", "sh", "-c", "kill -SEGV $$"},
      .env = {"LC_ALL=C", "ASAN_OPTIONS=disable_coredump=0", "TSAN_OPTIONS=disable_coredump=0"},
      .cwd = directory,
      .core = true};
  const Outcome gnu = run_timeout(Timeout::kGnu, run).outcome;
  EXPECT_EQ(gnu.term_signal, SIGSEGV);
  for (Timeout which : kOurTimeouts) {
    const Outcome ours = run_timeout(which, run).outcome;
    EXPECT_EQ(ours.term_signal, SIGSEGV) << which;
    EXPECT_FALSE(ours.core_dumped) << which << ": the wrapper's own core is of no use";
    // Whether the command can dump core depends on the machine; GNU tells which it is.
    EXPECT_EQ(ours.err, gnu.err) << which;
  }
  std::filesystem::remove_all(directory);
}

TEST(Timeout, IsNeverEarly) {
  for (Timeout which : kOurTimeouts) {
    for (uint64_t ms : {20, 50, 123, 250}) {
      const std::string limit = "0." + std::to_string(1000 + ms).substr(1);
      const Outcome outcome = run_timeout(which, {.args = {limit, "sleep", "100"}}).outcome;
      EXPECT_EQ(outcome.exit_code, 124) << which << " " << limit;
      EXPECT_GE(outcome.wall_ns, ms * 1'000'000) << which << " " << limit;
      EXPECT_LT(outcome.wall_ns, (ms + 5000) * 1'000'000) << which << " " << limit;
    }
  }
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
uint64_t cpu_ns(const rusage& usage) {
  auto ns = [](const timeval& t) {
    return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 +
           static_cast<uint64_t>(t.tv_usec) * 1000;
  };
  return ns(usage.ru_utime) + ns(usage.ru_stime);
}

// CPU time, and the least of many taken in turns: what else runs on the machine makes each of them
// longer. Nothing in a start waits, so that is its time on an idle machine.
TEST(Timeout, StartsWithinTwiceGnusTime) {
  std::map<Timeout, uint64_t> least;
  auto is_fast = [&least] {
    return std::all_of(kOurTimeouts.begin(), kOurTimeouts.end(), [&least](Timeout which) {
      return least[which] <= 2 * least[Timeout::kGnu];
    });
  };
  for (int i = 0; i < 20 || (i < 200 && !is_fast()); ++i) {
    for (Timeout which : kAllTimeouts) {
      const Outcome outcome = run(timeout_command(which, {.args = {"50", "true"}}));
      ASSERT_EQ(outcome.exit_code, 0) << which << outcome.describe();
      uint64_t& ns = least.try_emplace(which, UINT64_MAX).first->second;
      ns = std::min(ns, cpu_ns(outcome.usage));
    }
  }
  const std::string found = "ns of CPU time: GNU " + std::to_string(least[Timeout::kGnu]) +
                            ", ours " + std::to_string(least[Timeout::kLink]) + " and " +
                            std::to_string(least[Timeout::kSubcommand]);
  RecordProperty("start", found);
  EXPECT_TRUE(is_fast()) << found;
}
#endif

// bpf(2) and perf_event_open(2) end the process here.
void forbid_bpf() {
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_bpf, 1, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_perf_event_open, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{std::size(code), code};
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
    ::_exit(99);
  }
}

TEST(Timeout, NeverOpensBpf) {
  for (Timeout which : kOurTimeouts) {
    for (const Args& list : {Args{"50", "true"}, Args{"-v", "-k", "5", ".05", "sleep", "100"},
                             Args{"--help"}, Args{"--version"}, Args{"-z"}}) {
      const Outcome allowed = run_timeout(which, {.args = list}).outcome;
      const Outcome outcome = run_timeout(which, {.args = list, .before_exec = forbid_bpf}).outcome;
      EXPECT_EQ(outcome.status(), allowed.status()) << which << outcome.describe();
    }
  }
}

}  // namespace
}  // namespace procguard::test
