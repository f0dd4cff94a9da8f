// SPDX-License-Identifier: Apache-2.0
// The command as a child that is held before exec.
#include "cli/child.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <vector>

#include "sys/files.h"

namespace procguard::cli {
namespace {

using namespace std::string_literals;

constexpr int kDeadlineMs = 20'000;

ChildSpec spec_of(std::vector<std::string> command) {
  ChildSpec spec;
  spec.command = std::move(command);
  spec.environment = {"PATH=/usr/bin:/bin", "PROCGUARD_GUARD=g7"};
  ::sigprocmask(SIG_BLOCK, nullptr, &spec.mask);
  ::sigaction(SIGCHLD, nullptr, &spec.on_child_exit);
  return spec;
}

bool readable(int fd) {
  pollfd ready{.fd = fd, .events = POLLIN, .revents = 0};
  return ::poll(&ready, 1, kDeadlineMs) == 1;
}

int reap(const Child& child) {
  EXPECT_TRUE(readable(child.pidfd()));
  int status = -1;
  EXPECT_EQ(::waitpid(child.pid(), &status, 0), child.pid());
  return status;
}

std::string program_of(pid_t pid) {
  auto text = sys::read_file("/proc/" + std::to_string(pid) + "/comm");
  return text ? text->substr(0, text->find('\n')) : "";
}

TEST(Child, IsHeldUntilItIsLetGo) {
  auto child = Child::spawn(spec_of({"sh", "-c", "exit 5"}));
  ASSERT_TRUE(child.ok());
  const std::string self = program_of(::getpid());
  EXPECT_EQ(program_of(child->pid()), self) << "still the image of its parent";
  pollfd ready{.fd = child->exec_fd(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&ready, 1, 0), 0);
  ASSERT_TRUE(child->let_go().ok());
  ASSERT_TRUE(readable(child->exec_fd()));
  EXPECT_EQ(child->exec_error(), 0);
  const int status = reap(child.value());
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 5);
}

TEST(Child, SaysWhyItCouldNotBeExecuted) {
  struct Row {
    const char* command;
    int error;
    int status;
  };
  for (const Row& row : {Row{"/no/such/command", ENOENT, 127}, Row{"no-such-command", ENOENT, 127},
                         Row{"/etc/passwd", EACCES, 126}, Row{"/tmp", EACCES, 126}}) {
    auto child = Child::spawn(spec_of({row.command}));
    ASSERT_TRUE(child.ok());
    ASSERT_TRUE(child->let_go().ok());
    ASSERT_TRUE(readable(child->exec_fd()));
    EXPECT_EQ(child->exec_error(), row.error) << row.command;
    EXPECT_EQ(WEXITSTATUS(reap(child.value())), row.status) << row.command;
  }
}

TEST(Child, WhoIsNeverLetGoNeverExecutes) {
  pid_t pid = 0;
  {
    auto child = Child::spawn(spec_of({"sh", "-c", "exit 5"}));
    ASSERT_TRUE(child.ok());
    pid = child->pid();
  }
  int status = 0;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 125);
}

TEST(Child, DeathWhileHeldIsNoFailedExec) {
  auto child = Child::spawn(spec_of({"sh", "-c", "exit 5"}));
  ASSERT_TRUE(child.ok());
  child->send(SIGKILL);
  ASSERT_TRUE(readable(child->exec_fd()));
  EXPECT_EQ(child->exec_error(), 0);
  EXPECT_EQ(WTERMSIG(reap(child.value())), SIGKILL);
}

TEST(Child, GetsOneVariableWhenItIsLetGo) {
  const std::string longest(Child::kMaxLater, 'n');
  for (const std::string& value : {std::string("g42"), std::string(), longest}) {
    ChildSpec spec = spec_of({"sh", "-c", "test \"${LATER-unset}\" = \"$0\"", value});
    spec.named_later = "LATER";
    auto child = Child::spawn(spec);
    ASSERT_TRUE(child.ok());
    ASSERT_TRUE(child->let_go(value).ok());
    EXPECT_EQ(WEXITSTATUS(reap(child.value())), 0) << value;
  }
}

// What the host blocks and keeps open is nothing to the command.
TEST(Child, InheritsWhatItShouldAndNothingElse) {
  ChildSpec spec = spec_of({"sleep", "60"});
  ::sigemptyset(&spec.mask);
  ::sigaddset(&spec.mask, SIGUSR2);
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::sigprocmask(SIG_BLOCK, &all, &before);
  auto child = Child::spawn(spec);
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  ASSERT_TRUE(child.ok());
  ASSERT_TRUE(child->let_go().ok());
  ASSERT_TRUE(readable(child->exec_fd()));
  const std::string proc = "/proc/" + std::to_string(child->pid());
  auto status = sys::read_file(proc + "/status");
  auto environment = sys::read_file(proc + "/environ");
  auto fds = sys::list_directory(proc + "/fd");
  child->send(SIGKILL);
  reap(child.value());
  ASSERT_TRUE(status.ok() && environment.ok() && fds.ok());
  EXPECT_NE(status->find("SigBlk:\t0000000000000800\n"), std::string::npos)
      << "SIGUSR2 alone: " << status.value();
  EXPECT_EQ(environment.value(), "PATH=/usr/bin:/bin\0PROCGUARD_GUARD=g7\0"s);
  for (const int ours : {child->pidfd(), child->exec_fd()}) {
    EXPECT_EQ(std::count(fds->begin(), fds->end(), std::to_string(ours)), 0) << ours;
  }
}

}  // namespace
}  // namespace procguard::cli
