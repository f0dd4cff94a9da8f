// SPDX-License-Identifier: Apache-2.0
// A pid that comes back is another process: a stranger with it is never signalled, and a member
// with it is never unguarded.
#include <gtest/gtest.h>
#include <signal.h>

#include "tests/e2e/guarded_run.h"

namespace procguard::test {
namespace {

const Strings kStranger = {program("sleeper"), "--trap", "INT,TERM,HUP", "--exit-on", "USR1:4"};

// A process outside of the guarded tree that got `pid`.
Command stranger_with(pid_t pid) {
  Strings argv = {program("pid_recycle"), std::to_string(pid), "--"};
  argv.insert(argv.end(), kStranger.begin(), kStranger.end());
  return {.argv = argv};
}

// The number after `label` in `text`.
pid_t number_after(const std::string& text, const std::string& label) {
  const size_t at = text.find(label);
  return at == std::string::npos ? 0
                                 : static_cast<pid_t>(std::atoi(text.c_str() + at + label.size()));
}

class RecycledPid : public testing::TestWithParam<const char*> {};

TEST_P(RecycledPid, OfAnEndedMemberIsNotSignalled) {
  // The member ends and is reaped; then its pid goes to a stranger; then the ladder begins.
  GuardedRun run({"-t", "2s", "--kill", "--step-grace", "100ms", "--source", GetParam()},
                 {"sh", "-c", "true & echo member $!; wait; echo reaped; exec sleep 30"});
  ASSERT_TRUE(run.process().wait_for_output("reaped"));
  const pid_t pid = number_after(run.process().output(), "member ");
  Subprocess stranger(stranger_with(pid));
  ASSERT_TRUE(stranger.wait_for_output("ready " + std::to_string(pid)))
      << stranger.wait().describe();
  const Guarded guarded = run.wait();
  EXPECT_EQ(guarded.status(), 124) << guarded.describe();
  ASSERT_EQ(::kill(pid, SIGUSR1), 0);
  EXPECT_EQ(stranger.wait().status(), 4) << stranger.wait().describe();
  EXPECT_EQ(occurrences(stranger.output(), "got"), 1) << stranger.output();
}

TEST_P(RecycledPid, OfTheEndedCommandIsNotSignalled) {
  // The command is gone and reaped by `run`, which waits for what it left.
  GuardedRun run({"-t", "2s", "--kill", "--step-grace", "100ms", "--leftovers", "wait", "--source",
                  GetParam()},
                 {program("setsid_tree"), "--exit", "0"});
  ASSERT_TRUE(run.process().wait_for_output("ready "));
  const pid_t pid = number_after(run.process().output(), "ready ");
  ASSERT_TRUE(wait_until([&] { return process_state(pid) == '\0'; }));
  Subprocess stranger(stranger_with(pid));
  ASSERT_TRUE(stranger.wait_for_output("ready " + std::to_string(pid)))
      << stranger.wait().describe();
  const Guarded guarded = run.wait();
  EXPECT_EQ(guarded.status(), 137) << guarded.describe();
  EXPECT_TRUE(guarded.survivors.empty()) << guarded.describe();
  ASSERT_EQ(::kill(pid, SIGUSR1), 0);
  EXPECT_EQ(stranger.wait().status(), 4) << stranger.wait().describe();
  EXPECT_EQ(occurrences(stranger.output(), "got"), 1) << stranger.output();
}

INSTANTIATE_TEST_SUITE_P(Source, RecycledPid, testing::Values("bpf", "procfs"),
                         [](const auto& row) { return std::string(row.param); });

// The same pid dies and is born again in the tree, several times within a few milliseconds: what
// the end of an old one takes away must not be the new one's.
struct Recycled {
  const char* name;
  Strings options;
  Strings command;
  const char* resource;
};

class RecycledMember : public testing::TestWithParam<Recycled> {};

TEST_P(RecycledMember, IsGuarded) {
  for (const char* times : {"1", "2", "10"}) {
    Strings command = {program("pid_recycle"), "--again", times, "--"};
    command.push_back(program(GetParam().command[0]));
    command.insert(command.end(), GetParam().command.begin() + 1, GetParam().command.end());
    const Guarded guarded = run_guarded(GetParam().options, command);
    EXPECT_NE(guarded.outcome.out.find("recycled"), std::string::npos) << guarded.describe();
    EXPECT_TRUE(guarded.status() == 124 || guarded.status() == 137) << guarded.describe();
    EXPECT_EQ(guarded.resource(), GetParam().resource) << guarded.describe();
    EXPECT_TRUE(guarded.survivors.empty()) << guarded.describe();
    EXPECT_LT(guarded.usage("peak_rss_bytes"), 64 * kMiB + 512 * 1024) << guarded.describe();
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, RecycledMember,
    testing::Values(Recycled{"Memory", {"-m", "64M"}, {"touch", "2G"}, "memory"},
                    Recycled{"Cpu", {"--cpu", "200ms"}, {"spin"}, "cpu"},
                    Recycled{"Timeout",
                             {"-t", "500ms", "--kill", "--step-grace", "50ms"},
                             {"sleeper", "--ignore", "INT,TERM"},
                             "timeout"}),
    [](const auto& row) { return std::string(row.param.name); });

}  // namespace
}  // namespace procguard::test
