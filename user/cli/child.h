// SPDX-License-Identifier: Apache-2.0
// The command as a child process that is held before exec until somebody lets it go: so a guard is
// in force before the first instruction of the command.
//
// Its pidfd comes from the same clone3 that made it: the pid can never be somebody else's. Single
// thread. The child gets the signal mask and the SIGCHLD disposition it is told to have; all other
// dispositions are inherited, so the host must not change any.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "sys/fd.h"

namespace procguard::cli {

struct ChildSpec {
  std::vector<std::string> command;      // command[0] is looked up in PATH
  std::vector<std::string> environment;  // "NAME=value"
  std::string named_later;  // one more variable, whose value comes with let_go(); empty: none
  sigset_t mask{};
  struct sigaction on_child_exit {};  // SIGCHLD
  int cgroup = -1;                    // directory fd of the cgroup it starts in
  int terminal = -1;  // of which it gets a process group of its own as the foreground
};

class Child {
 public:
  static Result<Child> spawn(const ChildSpec& spec);

  pid_t pid() const { return pid_; }
  int pidfd() const { return pidfd_.get(); }

  // To its exec, with the value of `named_later`, of which kMaxLater bytes count. Without this, and
  // when its parent dies before, it never executes anything.
  static constexpr std::size_t kMaxLater = 63;
  Result<void> let_go(std::string_view later = {});
  // Readable when the exec has been completed or has failed, or the child is dead: then take
  // exec_error() and forget the fd.
  int exec_fd() const { return outcome_.get(); }
  // errno of the failed exec; 0 if it was executed or died before. Nothing: not known yet.
  std::optional<int> exec_error();

  // While it is not reaped. Errors are of no use to anybody: it has ended.
  void send(int signal) const;

 private:
  Child(pid_t pid, sys::Fd pidfd, sys::Fd gate, sys::Fd outcome)
      : pid_(pid), pidfd_(std::move(pidfd)), gate_(std::move(gate)), outcome_(std::move(outcome)) {}

  pid_t pid_;
  sys::Fd pidfd_;
  sys::Fd gate_;
  sys::Fd outcome_;
};

}  // namespace procguard::cli
