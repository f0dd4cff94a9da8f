// SPDX-License-Identifier: Apache-2.0
// Which signals procguard run passes on, and the witness that tells a signal for the group.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>

#include "cli/group_witness.h"
#include "cli/signal_port.h"

namespace procguard::cli {
namespace {

struct Row {
  const char* description;
  Received received;
  bool to_group;
  bool forward;
};

TEST(SignalForwarding, WhatMustBePassedOn) {
  const Row rows[] = {
      {"kill -TERM procguard", {SIGTERM, false, 7}, false, true},
      {"kill -TERM -group: the command got it too", {SIGTERM, false, 7}, true, false},
      {"Ctrl-C", {SIGINT, true, 0}, false, false},
      {"kill -INT procguard", {SIGINT, false, 7}, false, true},
      {"Ctrl-\\", {SIGQUIT, true, 0}, false, false},
      {"the terminal hung up", {SIGHUP, true, 0}, false, false},
      {"kill -HUP procguard", {SIGHUP, false, 7}, false, true},
      {"the window has another size", {SIGWINCH, true, 0}, false, false},
      {"Ctrl-Z", {SIGTSTP, true, 0}, false, false},
      {"an alarm from before our exec", {SIGALRM, true, 0}, false, true},
      {"a real-time signal", {SIGRTMIN + 3, false, 7}, false, true},
      {"a child has ended", {SIGCHLD, true, 7}, false, false},
  };
  for (const Row& row : rows) {
    EXPECT_EQ(must_forward(row.received, row.to_group), row.forward) << row.description;
  }
}

constexpr std::uint64_t bit(int signal) {
  return 1ULL << (signal - 1);
}

// In a process group of its own: what is sent to the group must not reach the test runner.
int in_a_group_of_its_own(int (*body)()) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::setpgid(0, 0);
    sigset_t all;
    ::sigfillset(&all);
    ::sigprocmask(SIG_SETMASK, &all, nullptr);
    ::_exit(body());
  }
  int status = -1;
  EXPECT_EQ(::waitpid(pid, &status, 0), pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(SignalForwarding, TheWitnessTellsTheGroupFromTheProcess) {
  EXPECT_EQ(in_a_group_of_its_own([] {
              auto witness = GroupWitness::start();
              if (!witness || witness->take() != 0) {
                return 1;
              }
              ::kill(0, SIGUSR1);
              ::kill(0, SIGTERM);
              ::kill(::getpid(), SIGUSR2);
              if (witness->take() != (bit(SIGUSR1) | bit(SIGTERM))) {
                return 2;
              }
              if (witness->take() != 0) {
                return 3;  // said once
              }
              ::kill(0, SIGRTMIN + 5);
              return witness->take() == bit(SIGRTMIN + 5) ? 0 : 4;
            }),
            0);
}

TEST(SignalForwarding, AWitnessThatIsGoneHoldsNobodyUp) {
  EXPECT_EQ(in_a_group_of_its_own([] {
              auto witness = GroupWitness::start();
              if (!witness) {
                return 1;
              }
              ::kill(witness->pid(), SIGKILL);
              ::kill(0, SIGUSR1);
              return witness->take() == 0 && witness->take() == 0 ? 0 : 2;
            }),
            0);
}

TEST(SignalForwarding, TheWitnessEndsWithItsOwner) {
  EXPECT_EQ(in_a_group_of_its_own([] {
              {
                auto witness = GroupWitness::start();
                if (!witness) {
                  return 1;
                }
              }
              return ::waitpid(-1, nullptr, WNOHANG) < 0 ? 0 : 2;  // no child is left
            }),
            0);
}

}  // namespace
}  // namespace procguard::cli
