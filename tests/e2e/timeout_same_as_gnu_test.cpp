// SPDX-License-Identifier: Apache-2.0
// A table over every class of flag, duration, status and survivor: the installed GNU timeout and
// ours, under both names, must show the same status, output, messages and survivors. What GNU
// changed after the installed version is in timeout_newest_test.cpp.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <ostream>

#include "tests/e2e/timeout_runner.h"

namespace procguard::test {
namespace {

struct Row {
  const char* name;
  TimeoutRun run;
  size_t survivors = 0;
};

void PrintTo(const Row& row, std::ostream* out) {
  *out << row.name;
}

using Args = std::vector<std::string>;

Args sh(Args before, const std::string& script) {
  before.insert(before.end(), {"sh", "-c", script});
  return before;
}

TimeoutRun args(Args list) {
  return {.args = std::move(list)};
}

// The command says that it is ready; then the wrapper gets the signal. SIGALRM is its timeout.
TimeoutRun at_ready(int signal, Args before, const std::string& script) {
  return {.args = sh(std::move(before), script), .when_ready = signal};
}

// No child of the shell lives long: one that is just being forked may not act on a signal yet.
#define LOOP "while :; do sleep .05; done"
// Stops itself, and is ready only then.
#define STOP                                                                         \
  "(while ! grep -q '^State:.T' /proc/$$/status; do sleep .02; done; echo ready) & " \
  "kill -STOP $$; "
constexpr const char* kWait = "echo ready; " LOOP;
constexpr const char* kIgnoreTerm = "trap '' TERM; echo ready; " LOOP;
// A command that answers these signals with status 7.
TimeoutRun answering(int signal, Args before, const std::vector<int>& answered) {
  before.push_back(program("timeout_command"));
  for (int number : answered) {
    before.insert(before.end(), {"exit", std::to_string(number)});
  }
  return {.args = std::move(before), .when_ready = signal};
}

constexpr const char* kShowSignals = "grep -E '^(SigBlk|SigIgn|SigCgt)' /proc/self/status";

const Row kOptions[] = {
    {"no_argument", args({})},
    {"no_command", args({"5"})},
    {"unknown_short_option", args({"-z", "5", "true"})},
    {"unknown_long_option", args({"--nonsense", "5", "true"})},
    {"number_as_option", args({"-1", "true"})},
    {"ambiguous_abbreviation", args({"--ver", "5", "true"})},
    {"abbreviated_foreground", args({"--fo", "5", "sh", "-c", "exit 3"})},
    {"abbreviated_preserve_status", args({"--pres", ".05", "sleep", "100"})},
    {"abbreviated_kill_after", args({"--kill=5", "5", "true"})},
    {"abbreviated_signal", args({"--sig=HUP", "--preserve", ".05", "sleep", "100"})},
    {"kill_after_without_value", args({"--kill-after"})},
    {"kill_after_short_without_value", args({"-k"})},
    {"signal_without_value", args({"--signal"})},
    {"value_not_allowed", args({"--foreground=3", "5", "true"})},
    {"kill_after_joined", args({"-k5", "5", "true"})},
    {"signal_joined", args({"-sINT", "5", "true"})},
    {"options_together", args({"-vk5", "5", "true"})},
    {"end_of_options", args({"--", "5", "true"})},
    {"options_stop_at_duration", args({"5", "sh", "-c", "echo $0 $1", "-v", "--help"})},
    {"options_of_the_command", args({"5", "echo", "-n", "--foreground"})},
    {"bad_kill_after", args({"-k", "x", "5", "true"})},
    {"bad_kill_after_before_unknown_option", args({"-k", "x", "-z", "5", "true"})},
    {"bad_signal", args({"-s", "nope", "5", "true"})},
    {"bad_signal_empty", args({"-s", "", "5", "true"})},
    {"last_signal_counts",
     args({"-s", "KILL", "-s", "HUP", "--preserve-status", ".05", "sleep", "100"})},
    {"posixly_correct",
     {.args = {"5", "echo", "-n", "x"}, .env = {"LC_ALL=C", "POSIXLY_CORRECT=1"}}},
};

const Row kDurations[] = {
    {"seconds", args({"10", "true"})},
    {"suffix_s", args({"10s", "true"})},
    {"suffix_m", args({"1.5m", "true"})},
    {"suffix_h", args({".5h", "true"})},
    {"suffix_d", args({"1d", "true"})},
    {"exponent", args({"1e3", "true"})},
    {"hexadecimal", args({"0x10", "true"})},
    {"hexadecimal_ends_in_d", args({"0x0.1d", "sleep", "100"})},
    {"infinity", args({"inf", "true"})},
    {"infinity_of_days", args({"infinityd", "true"})},
    {"too_long_to_count", args({"9223372036854775808d", "true"})},
    {"beyond_floating_point", args({"1e5000", "true"})},
    {"kill_after_too_long_to_count", args({"-k", "9223372036854775808d", "10", "true"})},
    {"zero_is_no_limit", args({"0", "sleep", ".05"})},
    {"zero_seconds", args({"0s", "sleep", ".05"})},
    {"minus_zero", args({"--", "-0", "sleep", ".05"})},
    {"kill_after_zero", args({"-k", "0", ".05", "sleep", "100"})},
    {"leading_space", args({" 10", "true"})},
    {"plus", args({"+10", "true"})},
    {"tiny", args({".0000000001", "sleep", "100"})},
    {"times_out", args({".05", "sleep", "100"})},
    {"times_out_in_days", args({"1e-6d", "sleep", "100"})},
    {"negative", args({"--", "-1", "true"})},
    {"empty", args({"", "true"})},
    {"nan", args({"nan", "true"})},
    {"unknown_suffix", args({"1x", "true"})},
    {"upper_case_suffix", args({"1S", "true"})},
    {"two_suffixes", args({"1sm", "true"})},
    {"milliseconds_are_ours_not_gnus", args({"300ms", "true"})},
    {"microseconds_are_ours_not_gnus", args({"300us", "true"})},
    {"trailing_space", args({"1 ", "true"})},
    {"comma", args({"1,5", "true"})},
    {"only_a_dot", args({".", "true"})},
    {"incomplete_exponent", args({"1e", "true"})},
    {"incomplete_hexadecimal", args({"0x", "true"})},
};

const Row kStatuses[] = {
    {"success", args({"5", "true"})},
    {"failure", args({"5", "false"})},
    {"own_status", args({"5", "sh", "-c", "exit 42"})},
    {"own_124", args({"5", "sh", "-c", "exit 124"})},
    {"output_goes_through", args({"5", "sh", "-c", "echo out; echo err >&2"})},
    {"not_found", args({"5", "no-such-command-here"})},
    {"path_not_found", args({"5", "/no/such/command"})},
    {"empty_command", args({"5", ""})},
    {"not_executable", args({"5", "/etc/passwd"})},
    {"a_directory", args({"5", "/"})},
    {"script_without_interpreter", args({"5", "/proc/self/cmdline"})},
    {"ended_by_TERM", args({"5", "sh", "-c", "kill -TERM $$"})},
    {"ended_by_KILL", args({"5", "sh", "-c", "kill -KILL $$"})},
    {"ended_by_a_real_time_signal", args({"5", "sh", "-c", "kill -40 $$"})},
    {"ended_by_TERM_preserved", args({"--preserve-status", "5", "sh", "-c", "kill -TERM $$"})},
    {"aborted", args({"5", "sh", "-c", "kill -ABRT $$"})},
    {"timeout", args({".05", "sleep", "100"})},
    {"timeout_preserved", args({"--preserve-status", ".05", "sleep", "100"})},
    {"timeout_with_own_status", answering(SIGALRM, {"50"}, {SIGTERM})},
    {"timeout_with_own_status_preserved",
     answering(SIGALRM, {"--preserve-status", "50"}, {SIGTERM})},
    {"timeout_by_KILL", args({"-s", "KILL", ".05", "sleep", "100"})},
    {"timeout_by_KILL_in_foreground", args({"--foreground", "-s", "9", ".05", "sleep", "100"})},
    {"timeout_then_KILL", at_ready(SIGALRM, {"-k", ".05", "50"}, kIgnoreTerm)},
    {"timeout_then_KILL_preserved",
     at_ready(SIGALRM, {"-k", ".05", "--preserve-status", "50"}, kIgnoreTerm)},
    {"timeout_then_KILL_in_foreground", at_ready(SIGALRM, {"-k", ".05", "--foreground", "50"},
                                                 "trap '' TERM; echo ready; exec sleep 100")},
    {"kill_after_not_needed", args({"-k", "50", ".05", "sleep", "100"})},
    {"no_signal_then_KILL", args({"-s", "0", "-k", ".05", ".05", "sleep", "100"})},
    {"harmless_signal", args({"-s", "CONT", ".05", "sleep", ".2"})},
    {"harmless_signal_preserved", args({"-s", "CONT", "--preserve-status", ".05", "sleep", ".2"})},
    {"ignored_signal_and_the_CONT_after_it",
     at_ready(
         SIGALRM, {"50"},
         "trap '' TERM; trap 'trap \"\" CONT; echo continued; exit 5' CONT; echo ready; " LOOP)},
    {"ignored_signal_preserved", at_ready(SIGALRM, {"--preserve-status", "50"},
                                          "trap '' TERM; trap 'exit 5' CONT; echo ready; " LOOP)},
    {"signal_HUP", args({"-s", "HUP", "--preserve-status", ".05", "sleep", "100"})},
    {"signal_sigint", args({"-s", "sigint", "--preserve-status", ".05", "sleep", "100"})},
    {"signal_number", args({"-s", "3", "--preserve-status", ".05", "sleep", "100"})},
    {"signal_status", args({"-s", "138", "--preserve-status", ".05", "sleep", "100"})},
    {"signal_RTMIN", args({"-s", "RTMIN+1", "--preserve-status", ".05", "sleep", "100"})},
    {"signal_RTMAX", args({"-s", "RTMAX", "--preserve-status", ".05", "sleep", "100"})},
    {"signal_ALRM", args({"-s", "ALRM", "--preserve-status", ".05", "sleep", "100"})},
    {"nested", args({"50", "/usr/bin/timeout", ".05", "sleep", "100"})},
    {"nested_the_outer_first", args({".05", "/usr/bin/timeout", "50", "sleep", "100"})},
};

const Row kVerbose[] = {
    {"TERM", args({"-v", ".05", "sleep", "100"})},
    {"KILL", args({"-v", "-s", "KILL", ".05", "sleep", "100"})},
    {"then_KILL", at_ready(SIGALRM, {"-v", "-k", ".05", "50"}, kIgnoreTerm)},
    {"in_foreground", args({"-v", "--foreground", ".05", "sleep", "100"})},
    {"real_time", args({"-v", "-s", "35", ".05", "sleep", "100"})},
    {"real_time_from_the_top", args({"-v", "-s", "RTMAX-2", ".05", "sleep", "100"})},
    {"alias", args({"-v", "-s", "SIGIOT", ".05", "sleep", "100"})},
    {"odd_command", args({"-v", ".05", "/usr/../usr/bin/sleep", "100"})},
    {"not_timed_out", args({"-v", "50", "true"})},
    {"a_signal_passed_on", at_ready(SIGHUP, {"-v", "50"}, kWait)},
};

const Row kQuoting[] = {
    {"plain", args({"50", "a b$c*"})},
    {"quotes", args({"a'b\"c\\d", "true"})},
    {"control_characters", args({"\a\b\f\n\r\t\v\033\177", "true"})},
    {"not_ascii", args({"\xc3\xa9\xe2\x80\x99\xff", "true"})},
    {"not_ascii_in_utf8",
     {.args = {"a'\xc3\xa9\xe2\x80\x98\xe2\x80\x99\xff\n\\", "true"}, .env = {"LC_ALL=C.UTF-8"}}},
    {"signal_in_utf8", {.args = {"-s", "x'\xc3", "5", "true"}, .env = {"LC_ALL=C.UTF-8"}}},
    {"command_in_utf8", {.args = {"5", "no-\xc3\xa9"}, .env = {"LC_ALL=C.UTF-8"}}},
    {"verbose_in_utf8", {.args = {"-v", ".05", "sleep", "100"}, .env = {"LC_ALL=C.UTF-8"}}},
    {"locale_that_is_not_installed", {.args = {"x", "true"}, .env = {"LC_ALL=xx_XX.UTF-8"}}},
    {"locale_by_LANG", {.args = {"x", "true"}, .env = {"LC_ALL", "LC_CTYPE", "LANG=C.UTF-8"}}},
};

const Row kSurvivors[] = {
    {"children_end_too", at_ready(SIGALRM, {"50"}, "sleep 100 & sleep 100 & echo ready; wait")},
    {"in_foreground_only_the_command_ends",
     at_ready(SIGALRM, {"--foreground", "50"}, "sleep 100 & sleep 100 & echo ready; wait"), 2},
    {"a_new_session_survives",
     at_ready(SIGALRM, {"50"}, "setsid sh -c 'echo ready; exec sleep 100' & wait"), 1},
    {"a_daemon_survives",
     at_ready(SIGALRM, {"50"}, "(setsid sh -c 'echo ready; exec sleep 100' &) ; sleep 100"), 1},
    {"a_command_that_left_the_group_ends", args({".2", "setsid", "sleep", "100"})},
    {"whoever_ignores_the_signal_survives",
     at_ready(SIGALRM, {"50"},
              "sh -c 'trap \"\" TERM; echo ready; while :; do sleep 100; done' & wait"),
     2},
    {"KILL_reaches_them",
     at_ready(SIGALRM, {"-k", ".05", "50"}, "trap '' TERM; sh -c 'echo ready; sleep 100' & wait")},
    {"what_the_command_leaves_behind_is_left",
     args({"50", "sh", "-c", "sleep 100 >/dev/null & exit 3"}), 1},
};

const Row kInherited[] = {
    {"default", args({"5", "sh", "-c", kShowSignals})},
    {"ignored_USR1_and_PIPE",
     {.args = sh({"5"}, kShowSignals),
      .before_exec =
          [] {
            ::signal(SIGUSR1, SIG_IGN);
            ::signal(SIGPIPE, SIG_IGN);
          }}},
    {"ignored_CHLD",
     {.args = sh({"5"}, kShowSignals), .before_exec = [] { ::signal(SIGCHLD, SIG_IGN); }}},
    {"ignored_CHLD_own_status",
     {.args = sh({"5"}, "exit 3"), .before_exec = [] { ::signal(SIGCHLD, SIG_IGN); }}},
    {"ignored_CHLD_times_out",
     {.args = {".05", "sleep", "100"}, .before_exec = [] { ::signal(SIGCHLD, SIG_IGN); }}},
    {"ignored_ALRM",
     {.args = {".05", "sleep", "100"}, .before_exec = [] { ::signal(SIGALRM, SIG_IGN); }}},
    {"ignored_ALRM_in_the_command",
     {.args = sh({"5"}, kShowSignals), .before_exec = [] { ::signal(SIGALRM, SIG_IGN); }}},
    {"ignored_terminal_stops",
     {.args = sh({"5"}, kShowSignals),
      .before_exec =
          [] {
            ::signal(SIGTTIN, SIG_IGN);
            ::signal(SIGTTOU, SIG_IGN);
            ::signal(SIGTSTP, SIG_IGN);
          }}},
    {"ignored_TERM_is_still_sent",
     {.args = {"--preserve-status", ".05", "sleep", "100"},
      .before_exec = [] { ::signal(SIGTERM, SIG_IGN); }}},
    {"ignored_signal_to_send",
     {.args = {"-s", "USR1", "--preserve-status", ".05", "sleep", "100"},
      .before_exec = [] { ::signal(SIGUSR1, SIG_IGN); }}},
    {"blocked",
     {.args = sh({"5"}, kShowSignals),
      .before_exec =
          [] {
            sigset_t set;
            ::sigfillset(&set);
            ::sigprocmask(SIG_SETMASK, &set, nullptr);
          }}},
    {"blocked_ALRM_and_CHLD",
     {.args = {".05", "sleep", "100"},
      .before_exec =
          [] {
            sigset_t set;
            ::sigemptyset(&set);
            ::sigaddset(&set, SIGALRM);
            ::sigaddset(&set, SIGCHLD);
            ::sigprocmask(SIG_SETMASK, &set, nullptr);
          }}},
    {"blocked_TERM_is_not_passed_on",
     {.args = sh({"-s", "KILL", "--foreground", ".5"}, "echo ready; exec sleep 100"),
      .when_ready = SIGTERM,
      .before_exec =
          [] {
            sigset_t set;
            ::sigemptyset(&set);
            ::sigaddset(&set, SIGTERM);
            ::sigprocmask(SIG_SETMASK, &set, nullptr);
          }}},
    {"a_child_from_before",
     {.args = {".3", "sh", "-c", "sleep 100; echo no"}, .script = "sleep .05 & exec \"$@\""}},
    {"closed_streams",
     {.args = {"5", "sh", "-c", "ls /proc/self/fd | wc -l"}, .script = "exec \"$@\" <&- 2>&-"}},
    {"no_signals_may_be_queued",
     {.args = sh({"5"}, "exit 3"),
      .before_exec =
          [] {
            const rlimit none{};
            ::setrlimit(RLIMIT_SIGPENDING, &none);
          }}},
};

const Row kSignals[] = {
    {"TERM", at_ready(SIGTERM, {"50"}, kWait)},
    {"INT", answering(SIGINT, {"50"}, {SIGINT})},
    {"QUIT", answering(SIGQUIT, {"50"}, {SIGQUIT})},
    {"HUP", at_ready(SIGHUP, {"50"}, kWait)},
    {"ALRM_is_the_timeout", at_ready(SIGALRM, {"50"}, kWait)},
    {"ALRM_without_a_limit", at_ready(SIGALRM, {"0"}, kWait)},
    {"TERM_without_a_limit", at_ready(SIGTERM, {"0"}, kWait)},
    {"TERM_handled", answering(SIGTERM, {"50"}, {SIGTERM})},
    {"TERM_in_foreground", at_ready(SIGTERM, {"--foreground", "50"}, "echo ready; exec sleep 100")},
    {"TERM_ignored_then_KILL", at_ready(SIGTERM, {"-v", "-k", ".05", "50"}, kIgnoreTerm)},
    {"TERM_ignored_then_KILL_without_a_limit", at_ready(SIGTERM, {"-k", ".05", "0"}, kIgnoreTerm)},
    {"the_first_timer_sends_KILL_after_an_earlier_signal",
     at_ready(SIGHUP, {"-k", "50", "1.5"}, "trap '' HUP; echo ready; " LOOP)},
    {"CONT_does_nothing", at_ready(SIGCONT, {"--preserve-status", ".3"}, kWait)},
    {"the_users_signal", at_ready(SIGUSR2, {"-v", "-s", "USR2", "50"}, kWait)},
    {"the_users_real_time_signal", at_ready(SIGRTMIN + 2, {"-v", "-s", "RTMIN+2", "50"}, kWait)},
};

const Row kStops[] = {
    {"a_stopped_command_ends", at_ready(SIGALRM, {"50"}, STOP "exit 3")},
    {"a_stopped_command_acts_on_the_signal",
     at_ready(SIGALRM, {"--preserve-status", "50"}, "trap 'exit 4' TERM; " STOP "exit 3")},
    {"in_foreground_it_stays_stopped_until_KILL",
     at_ready(SIGALRM, {"--foreground", "-k", ".3", "50"}, STOP "exit 3")},
    {"TSTP_goes_on_at_once", args({"-s", "TSTP", "-k", ".3", ".05", "sh", "-c", "sleep 100"})},
    {"a_command_in_the_background_that_reads_the_terminal",
     {.args = {".5", "cat"},
      .script = "set -m; \"$@\" & wait $!; echo status $?",
      .terminal = true}},
    {"a_command_of_a_script_cannot_read_the_terminal",
     {.args = {".5", "sh", "-c", "read x </dev/tty; echo no"},
      .script = "\"$@\"; echo status $?",
      .terminal = true}},
    {"in_foreground_it_can",
     {.args = sh({"--foreground", "50"}, "echo ready; read x; echo got $x"),
      .script = "\"$@\"; echo status $?",
      .terminal = true,
      .input_when_ready = "line\n"}},
    {"interrupted_at_the_terminal",
     {.args = {"50", program("timeout_command"), "exit", "2"},
      .terminal = true,
      .input_when_ready = "\x03"}},
    {"interrupted_at_the_terminal_in_foreground",
     {.args = {"--foreground", "50", program("timeout_command"), "exit", "2"},
      .terminal = true,
      .input_when_ready = "\x03"}},
};

class TimeoutSameAsGnu : public testing::TestWithParam<Row> {};

TEST_P(TimeoutSameAsGnu, EverythingThatShows) {
  const Row& row = GetParam();
  const TimeoutOutcome gnu = run_timeout(Timeout::kGnu, row.run, row.survivors);
  ASSERT_TRUE(gnu.outcome.error.empty()) << gnu.outcome.error;
  ASSERT_FALSE(gnu.outcome.timed_out) << gnu.outcome.describe();
  EXPECT_EQ(gnu.survivors, row.survivors) << "the table is wrong";
  for (Timeout which : kOurTimeouts) {
    const TimeoutOutcome ours = run_timeout(which, row.run, row.survivors);
    SCOPED_TRACE(testing::Message() << which << ": " << ours.outcome.describe()
                                    << "\nGNU: " << gnu.outcome.describe());
    EXPECT_EQ(ours.outcome.error, "");
    EXPECT_EQ(ours.outcome.exit_code, gnu.outcome.exit_code);
    EXPECT_EQ(ours.outcome.term_signal, gnu.outcome.term_signal);
    EXPECT_EQ(ours.outcome.out, gnu.outcome.out);
    EXPECT_EQ(ours.outcome.err, gnu.outcome.err);
    EXPECT_EQ(ours.survivors, gnu.survivors);
    EXPECT_FALSE(ours.outcome.timed_out);
  }
}

std::string name_of(const testing::TestParamInfo<Row>& info) {
  return info.param.name;
}

#define TABLE(name) \
  INSTANTIATE_TEST_SUITE_P(name, TimeoutSameAsGnu, testing::ValuesIn(k##name), name_of)
TABLE(Options);
TABLE(Durations);
TABLE(Statuses);
TABLE(Verbose);
TABLE(Quoting);
TABLE(Survivors);
TABLE(Inherited);
TABLE(Signals);
TABLE(Stops);
#undef TABLE

}  // namespace
}  // namespace procguard::test
