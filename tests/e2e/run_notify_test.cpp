// SPDX-License-Identifier: Apache-2.0
// sd_notify under procguard run -t: WATCHDOG=1 from a member is progress, nothing else is, and what
// is meant for a service manager reaches the one that run was started by.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>

#include "sys/fd.h"
#include "tests/e2e/guarded_run.h"

namespace procguard::test {
namespace {

// A datagram socket at this path, as a service manager has one.
sys::Fd manager_at(const std::string& path) {
  sys::Fd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  EXPECT_EQ(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  return fd;
}

std::string next_datagram(const sys::Fd& fd) {
  char text[256];
  const ssize_t bytes = ::recv(fd.get(), text, sizeof(text), 0);
  return bytes < 0 ? "" : std::string(text, static_cast<std::size_t>(bytes));
}

class RunNotify : public testing::TestWithParam<const char*> {};

TEST_P(RunNotify, WhoReportsProgressGoesOn) {
  const Guarded guarded =
      run_guarded({"-t", "1s", "--source", GetParam(), "-s", "KILL"},
                  {"sh", "-c", program("notifier") + " --every 0.1 --times 30; exit 7"});
  EXPECT_EQ(guarded.status(), 7) << guarded.describe();
  EXPECT_GT(guarded.wall_seconds(), 2.5) << guarded.describe();
}

TEST_P(RunNotify, WhoStopsReportingIsInterrupted) {
  const Guarded guarded =
      run_guarded({"-t", "1s", "--source", GetParam(), "-s", "KILL"},
                  {program("notifier"), "--every", "0.1", "--times", "15", "--seconds", "30"});
  EXPECT_EQ(guarded.status(), 137) << guarded.describe();
  EXPECT_EQ(guarded.resource(), "timeout");
  EXPECT_GT(guarded.wall_seconds(), 2.2) << guarded.describe();
}

INSTANTIATE_TEST_SUITE_P(Sources, RunNotify, testing::Values("bpf", "procfs"),
                         [](const auto& row) { return std::string(row.param); });

TEST(RunNotifySocket, OtherWordsAreNoProgress) {
  for (const char* text : {"WATCHDOG=trigger", "READY=1\\nSTATUS=WATCHDOG=1", "WATCHDOG=10",
                           "EXTEND_TIMEOUT_USEC=60000000", ""}) {
    const Guarded guarded =
        run_guarded({"-t", "800ms", "-s", "KILL"}, {program("notifier"), "--text", text, "--every",
                                                    "0.1", "--times", "100", "--seconds", "30"});
    EXPECT_EQ(guarded.status(), 137) << text << "\n" << guarded.describe();
    EXPECT_LT(guarded.wall_seconds(), 8) << text << "\n" << guarded.describe();
  }
}

TEST(RunNotifySocket, WhoIsNoMemberIsNotHeard) {
  GuardedRun run({"-t", "2s", "-s", "KILL"},
                 {program("notifier"), "--text", "READY=1", "--seconds", "60"});
  ASSERT_TRUE(run.process().wait_for_output("told"));
  const std::string said = run.process().output();
  const std::string socket = said.substr(3, said.find('\n') - 3);
  ASSERT_EQ(socket.rfind('@', 0), 0U) << said;
  Subprocess outsider({.argv = {program("notifier"), "--every", "0.1", "--times", "80"},
                       .env = {"NOTIFY_SOCKET=" + socket}});
  const Guarded guarded = run.wait();
  EXPECT_EQ(guarded.status(), 137) << guarded.describe();
  EXPECT_LT(guarded.wall_seconds(), 7) << guarded.describe();
}

TEST(RunNotifySocket, TheManagerHearsTheRest) {
  TempDir dir;
  const sys::Fd manager = manager_at(dir / "notify");
  const Guarded guarded = run_guarded(
      {"-t", "20s"},
      {"sh", "-c",
       "tell=" + program("notifier") +
           "; $tell --seconds 0.3; $tell --seconds 0.3 --text 'READY=1\\nWATCHDOG=1\\nSTATUS=so "
           "far'; $tell --seconds 0.3 --text STOPPING=1"},
      {.env = {"NOTIFY_SOCKET=" + dir / "notify"}});
  EXPECT_EQ(guarded.status(), 0) << guarded.describe();
  EXPECT_EQ(next_datagram(manager), "READY=1\nSTATUS=so far");
  EXPECT_EQ(next_datagram(manager), "STOPPING=1");
  EXPECT_EQ(next_datagram(manager), "");
}

TEST(RunNotifySocket, TheEnvironmentSaysIt) {
  const Command base{.env = {"NOTIFY_SOCKET=/outer", "WATCHDOG_USEC=7", "WATCHDOG_PID=1"}};
  const Strings show = {"sh", "-c", "echo $NOTIFY_SOCKET:$WATCHDOG_USEC:$WATCHDOG_PID:"};
  const Guarded timed = run_guarded({"-t", "1.5s"}, show, base);
  EXPECT_EQ(timed.outcome.out.rfind('@', 0), 0U) << timed.describe();
  EXPECT_NE(timed.outcome.out.find(":1500000::"), std::string::npos) << timed.describe();
  const Guarded untimed = run_guarded({"--cpu", "10s"}, show, base);
  EXPECT_EQ(untimed.outcome.out, "/outer:7:1:\n") << untimed.describe();
}

TEST(RunNotifySocket, ProgressByTheCommandLineIsRuns) {
  const std::string progress = procguard_binary() + " progress --socket /nonexistent";
  const Guarded guarded = run_guarded(
      {"-t", "1s", "-s", "KILL", "--no-agent"},
      {"sh", "-c", "for i in 1 2 3 4 5 6; do sleep 0.4; " + progress + " || exit 1; done; exit 7"});
  EXPECT_EQ(guarded.status(), 7) << guarded.describe();
  const Outcome deaf = run({.argv = {procguard_binary(), "progress"},
                            .env = {"PROCGUARD_GUARD=g0", "NOTIFY_SOCKET=@procguard-test-nobody"}});
  EXPECT_EQ(deaf.status(), 1) << deaf.describe();
  EXPECT_NE(deaf.err.find("procguard run's own"), std::string::npos) << deaf.describe();
}

}  // namespace
}  // namespace procguard::test
