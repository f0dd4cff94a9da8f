// SPDX-License-Identifier: Apache-2.0
// procguard run, whose agent goes: it is waited for, and nothing that happened is lost.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "sys/fd.h"
#include "tests/e2e/run_agent.h"

namespace procguard::test {
namespace {

TEST_F(RunAgent, TheNextAgentGoesOn) {
  start_agent();
  GuardedRun run({"-t", "3s", "-s", "KILL"}, {program("sleeper")}, base());
  ASSERT_TRUE(run.process().wait_for_output("ready"));
  agent_->kill();
  ASSERT_TRUE(run.process().wait_for_error("the agent has gone"));
  start_agent();
  const Guarded result = run.wait();
  EXPECT_EQ(result.status(), 137) << result.describe();
  EXPECT_EQ(result.results(), Strings{"sent"}) << "from the new agent\n" << result.describe();
  EXPECT_EQ(result.report["result"]["killed_by"], "guard") << result.describe();
  EXPECT_EQ(line_count(result.outcome.err), 3) << "gone, back, tripped\n" << result.describe();
}

TEST_F(RunAgent, WhatHappenedMeanwhileIsHeard) {
  start_agent();
  GuardedRun run({"-t", "1h"}, {program("sleeper"), "--exit-on", "USR1:5"}, base());
  ASSERT_TRUE(run.process().wait_for_output("ready"));
  agent_->kill();
  ASSERT_TRUE(run.process().wait_for_error("the agent has gone"));
  run.process().send(SIGUSR1);
  const Guarded result = run.wait();
  EXPECT_EQ(result.status(), 5) << "no agent, and the command ends by itself\n"
                                << result.describe();
  EXPECT_EQ(line_count(result.outcome.err), 2) << "gone, and its guard stays\n"
                                               << result.describe();
  EXPECT_NE(result.outcome.err.find("procguard release g1"), std::string::npos)
      << result.describe();
}

TEST_F(RunAgent, ATornDownGuardIsSaid) {
  start_agent();
  GuardedRun run({"-t", "1h", "-q"}, {program("sleeper"), "--exit-on", "USR1:5"}, base());
  ASSERT_TRUE(run.process().wait_for_output("ready"));
  agent_->kill();
  tear_down_guards();
  start_agent();
  EXPECT_TRUE(run.process().wait_for_error("does not know the guard"));
  run.process().send(SIGUSR1);
  EXPECT_EQ(run.wait().status(), 5);
}

bool ended(pid_t pid) {
  const char state = process_state(pid);
  return state == 'Z' || state == 0;
}

TEST_F(RunAgent, ATripOfTheNextAgentIsHeardAfterTheEnd) {
  start_agent();
  GuardedRun run({"-t", "3s"}, {program("sleeper")}, base());
  ASSERT_TRUE(run.process().wait_for_output("ready"));
  ASSERT_TRUE(started("g1"));
  const pid_t command = child_named(run.process().pid(), "sleeper");
  while_stopped(run, [&] {
    agent_->kill();
    start_agent();
    EXPECT_TRUE(wait_until([&] { return ended(command); })) << "the new agent has ended it";
  });
  const Guarded result = run.wait();
  EXPECT_EQ(result.status(), 124) << result.describe();
  EXPECT_EQ(result.resource(), "timeout") << result.describe();
  EXPECT_EQ(result.report["result"]["killed_by"], "guard") << result.describe();
}

TEST_F(RunAgent, WhatAnAgentToldBeforeItWentIsHeard) {
  start_agent();
  GuardedRun run({"-t", "1s"}, {program("sleeper")}, base());
  ASSERT_TRUE(run.process().wait_for_output("ready"));
  ASSERT_TRUE(started("g1"));
  const pid_t command = child_named(run.process().pid(), "sleeper");
  while_stopped(run, [&] {
    EXPECT_TRUE(wait_until([&] { return ended(command); }));
    EXPECT_NE(shown("g1").find("timeout"), std::string::npos) << "it has done what it had to";
    agent_->kill();
  });
  const Guarded result = run.wait();
  EXPECT_EQ(result.status(), 124) << result.describe();
  EXPECT_EQ(result.resource(), "timeout") << result.describe();
}

// Nobody accepts, and no more connections find room in the queue.
class StuckListener {
 public:
  explicit StuckListener(const std::string& path)
      : listener_(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    ::unlink(path.c_str());
    const auto* raw = reinterpret_cast<const sockaddr*>(&address);
    EXPECT_EQ(::bind(listener_.get(), raw, sizeof(address)), 0);
    EXPECT_EQ(::listen(listener_.get(), 0), 0);
    do {
      waiting_.emplace_back(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    } while (::connect(waiting_.back().get(), raw, sizeof(address)) == 0);
  }

 private:
  sys::Fd listener_;
  std::vector<sys::Fd> waiting_;
};

TEST_F(RunAgent, AnAgentThatHangsKeepsNobody) {
  start_agent();
  GuardedRun run({"-t", "1h"}, {"sh", "-c", "echo ready; sleep 2.5; exit 5"}, base());
  ASSERT_TRUE(run.process().wait_for_output("ready"));
  agent_->kill();
  const StuckListener stuck(place_.socket);
  const Guarded result = run.wait();
  EXPECT_EQ(result.status(), 5) << result.describe();
  EXPECT_LT(result.wall_seconds(), 15) << result.describe();
}

TEST_F(RunAgent, SomebodyElsesGuardOfTheSameNumberIsLeftAlone) {
  start_agent();
  GuardedRun run({"-t", "1h"}, {program("sleeper"), "--exit-on", "USR1:5"}, base());
  ASSERT_TRUE(run.process().wait_for_output("ready"));
  ASSERT_TRUE(started("g1"));
  Subprocess other({.argv = {program("sleeper")}});
  ASSERT_TRUE(other.wait_for_output("ready"));
  while_stopped(run, [&] {
    agent_->kill();
    tear_down_guards();
    start_agent();
    const Outcome attached =
        test::run({.argv = {procguard_binary(), "attach", "--socket", place_.socket, "--pid",
                            std::to_string(other.pid()), "-t", "1h"}});
    EXPECT_EQ(attached.out, "g1\n") << attached.describe();
  });
  EXPECT_TRUE(run.process().wait_for_error("does not know the guard"));
  run.process().send(SIGUSR1);
  EXPECT_EQ(run.wait().status(), 5);
  EXPECT_NE(shown("g1").find("armed"), std::string::npos) << shown("g1");
}

TEST_F(RunAgent, MembersAreWaitedForWhileTheAgentIsAway) {
  start_agent();
  GuardedRun run({"-t", "1h", "--leftovers", "wait"},
                 {"sh", "-c", program("sleeper") + " --exit-on TERM:0 & exit 3"}, base());
  ASSERT_TRUE(run.process().wait_for_output("ready"));
  ASSERT_TRUE(wait_until([&] { return child_named(run.process().pid(), "sh") == 0; }));
  agent_->kill();
  start_agent();
  EXPECT_FALSE(ended(run.process().pid())) << "the sleeper lives";
  // Its pid is the second word of what it has said.
  const pid_t sleeper = std::stoi(run.process().output().substr(6));
  ::kill(sleeper, SIGTERM);
  const Guarded result = run.wait();
  EXPECT_EQ(result.status(), 3) << result.describe();
  EXPECT_TRUE(result.survivors.empty()) << result.describe();
}

TEST_F(RunAgent, ProgressWhileTheAgentIsAwayCounts) {
  start_agent();
  GuardedRun run(
      {"-t", "6s"},
      {"sh", "-c", "echo ready; sleep 3; " + program("notifier") + "; sleep 4.5; exit 7"}, base());
  ASSERT_TRUE(run.process().wait_for_output("ready"));
  agent_->kill();
  ASSERT_TRUE(run.process().wait_for_output("told"));
  start_agent();
  const Guarded result = run.wait();
  EXPECT_EQ(result.status(), 7) << result.describe();
}

TEST_F(RunAgent, AGuardIsReleasedByTheNextAgent) {
  start_agent();
  GuardedRun run({"-t", "1h"}, {"sh", "-c", program("sleeper") + " & wait"}, base());
  ASSERT_TRUE(run.process().wait_for_output("ready"));
  ASSERT_TRUE(started("g1"));
  const pid_t command = child_named(run.process().pid(), "sh");
  ASSERT_GT(command, 0);
  while_stopped(run, [&] {
    agent_->kill();
    ::kill(command, SIGKILL);
    EXPECT_TRUE(wait_until([&] { return ended(command); }));
    start_agent();
  });
  const Guarded result = run.wait();
  EXPECT_EQ(result.status(), 137) << result.describe();
  EXPECT_EQ(result.report["leftovers"]["processes"], 1) << result.describe();
  EXPECT_NE(shown("g1").find("released"), std::string::npos) << shown("g1") << result.describe();
}

}  // namespace
}  // namespace procguard::test
