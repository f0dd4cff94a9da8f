// SPDX-License-Identifier: Apache-2.0
// procguard run on whole trees: nobody gets away, and what may outlive the command.
#include <gtest/gtest.h>

#include <cstring>

#include "tests/e2e/guarded_run.h"

namespace procguard::test {
namespace {

using std::chrono::seconds;

struct Bomb {
  const char* name;
  Strings arguments;
};

class RunBomb : public testing::TestWithParam<Bomb> {
 protected:
  uint64_t born() const {
    const std::string text = read_text(dir_ / "state");
    uint64_t count = 0;
    std::memcpy(&count, text.data(), std::min(text.size(), sizeof count));
    return count;
  }
  // Nothing that a scan of /proc could miss either: whoever lives forks.
  void expect_all_gone(const Guarded& guarded) {
    EXPECT_TRUE(guarded.survivors.empty()) << guarded.describe();
    const uint64_t count = born();
    EXPECT_GT(count, 20U) << "the bomb went off";
    EXPECT_FALSE(wait_until([&] { return born() != count; }, std::chrono::milliseconds(200)))
        << "still forking\n"
        << guarded.describe();
  }
  Strings bomb() const {
    Strings command = {program("fork_bomb"), "--seconds", "30", "--state", dir_ / "state"};
    command.insert(command.end(), GetParam().arguments.begin(), GetParam().arguments.end());
    return command;
  }

  TempDir dir_;
};

TEST_P(RunBomb, LeavesNoSurvivor) {
  const Guarded guarded = run_guarded({"-t", "1s", "--kill", "--step-grace", "300ms"}, bomb(),
                                      {.deadline = seconds(60)});
  EXPECT_TRUE(guarded.status() == 124 || guarded.status() == 137) << guarded.describe();
  EXPECT_NE(guarded.outcome.out.find("ready"), std::string::npos) << guarded.describe();
  EXPECT_LT(guarded.wall_seconds(), 20) << "the bomb ends by itself after 30 s";
  expect_all_gone(guarded);
}

TEST_P(RunBomb, IsNoLeftover) {
  Strings command = {"sh", "-c", "\"$@\" & sleep 0.5; exit 3", "sh"};
  const Strings bomb_command = bomb();
  command.insert(command.end(), bomb_command.begin(), bomb_command.end());
  const Guarded guarded =
      run_guarded({"-t", "60s", "--leftovers", "kill"}, command, {.deadline = seconds(60)});
  EXPECT_EQ(guarded.status(), 3) << guarded.describe();
  EXPECT_LT(guarded.wall_seconds(), 20);
  expect_all_gone(guarded);
}

INSTANTIATE_TEST_SUITE_P(
    All, RunBomb,
    testing::Values(Bomb{"Chain", {"--kind", "chain"}}, Bomb{"Wide", {"--kind", "wide"}},
                    Bomb{"Setsid", {"--kind", "setsid"}}, Bomb{"Vfork", {"--kind", "vfork"}},
                    Bomb{"Threads", {"--kind", "threads"}},
                    Bomb{"WideIgnoring", {"--kind", "wide", "--ignore", "INT,TERM,HUP"}},
                    Bomb{"SetsidIgnoring", {"--kind", "setsid", "--ignore", "INT,TERM,HUP"}}),
    [](const auto& row) { return std::string(row.param.name); });

TEST(RunTree, ASetsidDaemonDoesNotSurvive) {
  // The command ends at the first step; its daemon and that one's children ignore it.
  for (const char* step_grace : {"10ms", "300ms", "2s"}) {
    const Guarded guarded =
        run_guarded({"-t", "1s", "--kill", "--step-grace", step_grace}, {program("setsid_tree")});
    EXPECT_TRUE(guarded.status() == 124 || guarded.status() == 137) << guarded.describe();
    EXPECT_NE(guarded.outcome.out.find("ready"), std::string::npos) << guarded.describe();
    EXPECT_TRUE(guarded.survivors.empty()) << step_grace << guarded.describe();
  }
}

TEST(RunTree, EveryMemberGetsTheSignal) {
  const std::string member = program("sleeper") + " --exit-on INT:0 & ";
  const Guarded guarded = run_guarded(
      {"-t", "700ms"}, {"sh", "-c", "trap : INT; " + member + member + member + "wait; wait"});
  EXPECT_EQ(guarded.status(), 124) << guarded.describe();
  EXPECT_EQ(occurrences(guarded.outcome.out, "got INT"), 3) << guarded.describe();
}

TEST(RunTree, OfScopeProcessIsLeftAlone) {
  const Guarded guarded =
      run_guarded({"--scope", "process", "-t", "700ms"}, {program("setsid_tree")});
  EXPECT_EQ(guarded.status(), 124) << guarded.describe();
  EXPECT_EQ(guarded.survivors.size(), 4U) << guarded.describe();
}

TEST(RunTree, TheReportNamesItsMembership) {
  EXPECT_EQ(run_guarded({"-t", "9s"}, {"true"}).report["membership"], "bpf");
  EXPECT_EQ(run_guarded({"-t", "9s", "--source", "procfs"}, {"true"}).report["membership"],
            "subreaper");
}

TEST(RunLeftovers, AreLeftByDefault) {
  const Guarded guarded = run_guarded({"-t", "30s"}, {program("setsid_tree"), "--exit", "5"});
  EXPECT_EQ(guarded.status(), 5) << guarded.describe();
  EXPECT_EQ(guarded.survivors.size(), 4U) << guarded.describe();
}

TEST(RunLeftovers, LeftAreGuardedNoMore) {
  GuardedRun run({"-t", "500ms", "--kill", "--step-grace", "50ms"},
                 {program("setsid_tree"), "--exit", "0", "--seconds", "1.5"});
  const Guarded guarded = run.wait();
  EXPECT_EQ(guarded.status(), 0) << guarded.describe();
  ASSERT_EQ(guarded.survivors.size(), 4U) << guarded.describe();
  EXPECT_FALSE(
      wait_until([&] { return survivors(guarded.id).size() < 4; }, std::chrono::milliseconds(700)));
}

TEST(RunLeftovers, AreWaitedFor) {
  const Guarded guarded = run_guarded({"-t", "30s", "--leftovers", "wait"},
                                      {program("setsid_tree"), "--exit", "5", "--seconds", "1"});
  EXPECT_EQ(guarded.status(), 5) << guarded.describe();
  EXPECT_GE(guarded.wall_seconds(), 1.0) << guarded.describe();
  EXPECT_LT(guarded.wall_seconds(), 20.0) << guarded.describe();
  EXPECT_TRUE(guarded.survivors.empty()) << guarded.describe();
  EXPECT_FALSE(guarded.tripped()) << guarded.describe();
}

TEST(RunLeftovers, WaitedForAreStillGuarded) {
  const Guarded guarded =
      run_guarded({"-t", "700ms", "--kill", "--step-grace", "100ms", "--leftovers", "wait"},
                  {program("setsid_tree"), "--exit", "0"});
  EXPECT_EQ(guarded.status(), 137) << guarded.describe();
  EXPECT_EQ(guarded.resource(), "timeout") << guarded.describe();
  EXPECT_TRUE(guarded.survivors.empty()) << guarded.describe();
}

TEST(RunLeftovers, WaitedForHaveTheirMemoryLimit) {
  const std::string script = "(sleep 0.3; exec " + program("touch") + " 2G) & exit 0";
  // TERM: a shell without job control has its background ignore INT.
  const Guarded guarded =
      run_guarded({"-m", "64M", "-s", "TERM", "--leftovers", "wait"}, {"sh", "-c", script});
  EXPECT_EQ(guarded.status(), 124) << guarded.describe();
  EXPECT_EQ(guarded.resource(), "memory") << guarded.describe();
  EXPECT_LE(guarded.usage("peak_rss_bytes"), 64 * kMiB + 512 * 1024) << guarded.describe();
}

TEST(RunLeftovers, AreKilled) {
  const Guarded guarded =
      run_guarded({"-t", "30s", "--leftovers", "kill"}, {program("setsid_tree"), "--exit", "5"});
  EXPECT_EQ(guarded.status(), 5) << guarded.describe();
  EXPECT_LT(guarded.wall_seconds(), 15) << guarded.describe();
  EXPECT_TRUE(guarded.survivors.empty()) << guarded.describe();
  EXPECT_FALSE(guarded.tripped()) << "no limit was exceeded\n" << guarded.describe();
}

TEST(RunNested, BothGuardsHold) {
  const Strings inner = {procguard_binary(), "run"};
  const auto nested = [&](const Strings& outer_options, const Strings& inner_options,
                          const Strings& command) {
    Strings all = inner;
    all.insert(all.end(), inner_options.begin(), inner_options.end());
    all.push_back("--");
    all.insert(all.end(), command.begin(), command.end());
    return run_guarded(outer_options, all);
  };
  // The inner one's limit: the outer sees a command that exited with 124.
  const Guarded by_inner = nested({"-t", "30s"}, {"-t", "300ms"}, {"sleep", "20"});
  EXPECT_EQ(by_inner.status(), 124) << by_inner.describe();
  EXPECT_FALSE(by_inner.tripped()) << by_inner.describe();
  const Guarded by_outer = nested({"-t", "500ms", "--kill", "--step-grace", "100ms"}, {"-t", "30s"},
                                  {program("sleeper"), "--ignore", "INT,TERM"});
  EXPECT_EQ(by_outer.resource(), "timeout") << by_outer.describe();
  EXPECT_TRUE(by_outer.survivors.empty()) << by_outer.describe();
  // Each memory limit alone.
  const Strings grow = {program("touch"), "2G"};
  EXPECT_EQ(nested({"-m", "1G"}, {"-m", "64M", "--distinct-status"}, grow).status(), 121);
  const Guarded outer_memory = nested({"-m", "96M"}, {"-m", "1G"}, grow);
  EXPECT_EQ(outer_memory.resource(), "memory") << outer_memory.describe();
}

}  // namespace
}  // namespace procguard::test
