// SPDX-License-Identifier: Apache-2.0
// A command under procguard run sees the same world as without it.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/e2e/guarded_run.h"

namespace procguard::test {
namespace {

// What a process inherits, as text. Written to fd 9 = $OUT, so that 0, 1 and 2 may be anything.
constexpr const char* kLook = R"(
  exec 9> "$OUT"
  grep -E '^(Sig(Blk|Ign|Cgt)|Cap|NoNewPrivs|Seccomp|Uid|Gid|Groups|Umask|Cpus_allowed)' \
    /proc/self/status >&9
  cut -d' ' -f19,40,41 /proc/self/stat >&9
  cat /proc/self/oom_score_adj /proc/self/timerslack_ns /proc/self/cgroup >&9
  cat /proc/self/limits >&9
  env | grep -vE '^(PROCGUARD_|NOTIFY_SOCKET=|WATCHDOG_USEC=|_=|OUT=|SHLVL=)' | sort >&9
  pwd >&9
  exec 9>&-
  ls /proc/self/fd >> "$OUT"
)";

struct Setting {
  const char* name;
  void (*prepare)();
};

class RunTransparent : public testing::TestWithParam<Setting> {};

TEST_P(RunTransparent, NothingIsChanged) {
  TempDir dir;
  Command command;
  command.before_exec = GetParam().prepare;
  command.argv = {"bash", "-c", kLook};
  command.env = {"OUT=" + (dir / "direct")};
  ASSERT_EQ(run(command).status(), 0);
  for (const char* source : {"bpf", "procfs"}) {
    command.argv = {procguard_binary(),
                    "run",
                    "-t",
                    "20s",
                    "--source",
                    source,
                    "-m",
                    "4G",
                    "--",
                    "bash",
                    "-c",
                    kLook};
    command.env = {"OUT=" + (dir / "guarded")};
    const Outcome outcome = run(command);
    ASSERT_EQ(outcome.status(), 0) << outcome.describe();
    EXPECT_EQ(read_text(dir / "guarded"), read_text(dir / "direct")) << source;
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, RunTransparent,
    testing::Values(Setting{"Plain", [] {}}, Setting{"Umask", [] { ::umask(027); }},
                    Setting{"Nice", [] { [[maybe_unused]] const int was = ::nice(7); }},
                    Setting{"IgnoredSignals",
                            [] {
                              ::signal(SIGHUP, SIG_IGN);
                              ::signal(SIGPIPE, SIG_IGN);
                              ::signal(SIGINT, SIG_IGN);
                              ::signal(SIGCHLD, SIG_IGN);
                            }},
                    Setting{"BlockedSignals",
                            [] {
                              sigset_t set;
                              ::sigemptyset(&set);
                              ::sigaddset(&set, SIGUSR1);
                              ::sigaddset(&set, SIGTERM);
                              ::sigaddset(&set, SIGCHLD);
                              ::sigprocmask(SIG_BLOCK, &set, nullptr);
                            }},
                    Setting{"MoreFds",
                            [] {
                              ::dup2(0, 3);
                              ::dup2(0, 17);
                            }},
                    Setting{"NoStdin", [] { ::close(0); }}, Setting{"NoStdout", [] { ::close(1); }},
                    Setting{"NoStderr", [] { ::close(2); }},
                    Setting{"NoStandardFds",
                            [] {
                              ::close(0);
                              ::close(1);
                              ::close(2);
                            }}),
    [](const auto& row) { return std::string(row.param.name); });

TEST(RunStreams, PassUntouched) {
  std::string bytes;
  for (int i = 0; i < 1 << 20; ++i) {
    bytes.push_back(static_cast<char>((i * 7) ^ (i >> 8)));
  }
  Command command;
  command.input = bytes;
  const Guarded guarded = run_guarded({"-t", "20s"}, {"cat"}, command);
  EXPECT_EQ(guarded.status(), 0);
  EXPECT_TRUE(guarded.outcome.out == bytes) << guarded.outcome.out.size();
  EXPECT_EQ(guarded.outcome.err, "");
}

TEST(RunStreams, StderrIsTheCommandsToo) {
  const Guarded guarded = run_guarded({"-t", "20s"}, {"sh", "-c", "echo one >&2; echo two"});
  EXPECT_EQ(guarded.outcome.err, "one\n");
  EXPECT_EQ(guarded.outcome.out, "two\n");
}

TEST(RunStreams, AStderrThatNobodyReadsStopsNothing) {
  // The pipe is full before the limit trips.
  const std::string script = "head -c 1000000 /dev/zero >&2 & exec sleep 30";
  const std::string guarded = procguard_binary() +
                              " run -v -t 500ms --kill --step-grace 100ms -- "
                              "sh -c '" +
                              script + "'";
  TempDir dir;
  const Outcome outcome = run({.argv = {"bash", "-c",
                                        "mkfifo " + (dir / "full") + "; exec 2<> " +
                                            (dir / "full") + "; " + guarded + "; exit $?"}});
  EXPECT_TRUE(outcome.status() == 124 || outcome.status() == 137) << outcome.describe();
  EXPECT_LT(static_cast<double>(outcome.wall_ns) / 1e9, 15);
}

TEST(RunStreams, AClosedStderrIsNoReasonToFail) {
  Command command;
  command.before_exec = [] { ::close(2); };
  EXPECT_EQ(run_guarded({"-t", "300ms"}, {"sleep", "20"}, command).status(), 124);
}

// Numbers and names are for the agent's guards: this one is none, whatever an agent has by them.
TEST(RunEnvironment, TellsAGuardOfItsOwnFromTheAgents) {
  const Strings echo = {"sh", "-c", "echo \"[$PROCGUARD_GUARD]\""};
  EXPECT_EQ(run_guarded({"-t", "20s", "--name", "job"}, echo).outcome.out, "[g0]\n");
  EXPECT_EQ(run_guarded({"-m", "1G"}, echo).outcome.out, "[]\n") << "no timeout, no progress";
}

TEST(RunEnvironment, OfANestedRunIsTheInnerOne) {
  const Guarded guarded = run_guarded({"-t", "20s", "--name", "outer"},
                                      {procguard_binary(), "run", "-t", "20s", "--name", "inner",
                                       "--", "printenv", "PROCGUARD_GUARD"});
  EXPECT_EQ(guarded.status(), 0) << guarded.describe();
  EXPECT_EQ(line_count(guarded.outcome.out), 1) << guarded.describe();
}

}  // namespace
}  // namespace procguard::test
