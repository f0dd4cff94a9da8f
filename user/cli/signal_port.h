// SPDX-License-Identifier: Apache-2.0
// The signals that `procguard run` gets, as things to read: for its loop, and for the rule which of
// them the command must get too. One instance a process; the thread that opened it.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <vector>

#include "core/result.h"
#include "sys/fd.h"

namespace procguard::cli {

struct Received {
  int signal = 0;
  bool from_kernel = false;  // the terminal, or a timer; not kill(2)
  pid_t sender = 0;
};

// Must it be sent on to the command? Not what the terminal has sent to the command as well, and not
// what went to the whole process group that the command is in (`to_group`).
bool must_forward(const Received& received, bool to_group);

// SIGTSTP, SIGTTIN, SIGTTOU: what a shell's job control stops a job with.
bool is_job_stop(int signal);

class SignalPort {
 public:
  // Blocks what can be read here and gives SIGCHLD its default action (ignored, it would take the
  // children's statuses away). All else stays as it is, so that a child inherits it.
  static Result<SignalPort> open();

  int fd() const { return fd_.get(); }
  std::vector<Received> take();

  // What a child must get back.
  const sigset_t& original_mask() const { return original_mask_; }
  const struct sigaction& original_on_child_exit() const { return original_on_child_exit_; }

  // Stops this process by the default action of a job-control signal; returns when it goes on. True
  // if it did stop: in an orphaned process group the kernel ignores these signals, since nobody
  // would ever continue it.
  bool stop_self(int signal);

 private:
  SignalPort() = default;

  sys::Fd fd_;
  sigset_t original_mask_{};
  struct sigaction original_on_child_exit_ {};
};

}  // namespace procguard::cli
