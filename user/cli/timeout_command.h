// SPDX-License-Identifier: Apache-2.0
// Runs one command under `procguard timeout`: group, signals, timers, status.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <cstdint>

#include "cli/timeout_text.h"

namespace procguard::cli {

struct TimeoutOptions {
  bool foreground = false;
  bool preserve_status = false;
  bool verbose = false;
  int signal = SIGTERM;        // 0 = none: only --kill-after then ends the command
  uint64_t duration_ns = 0;    // 0 = no limit
  uint64_t kill_after_ns = 0;  // 0 = no KILL
  char** command = nullptr;    // its argv
};

class TimeoutCommand {
 public:
  TimeoutCommand(const TimeoutOptions& options, Messages& messages)
      : options_(options), messages_(messages), signal_(options.signal) {}

  // The exit status. Does not return if a signal ended the command before it timed out: then this
  // process ends by the same signal.
  int run();
  bool timed_out() const { return timed_out_; }

 private:
  void take_signals();
  [[noreturn]] void become_command(pid_t parent);
  int wait_for_command();
  void on_signal(int signal);
  void send(int signal);
  void send_to_group(int signal);
  void start_timer(uint64_t ns, bool warn);
  int exit_status(int wait_status);

  const TimeoutOptions& options_;
  Messages& messages_;
  int signal_;  // what the next SIGALRM sends
  bool kill_armed_ = false;
  bool timed_out_ = false;
  pid_t child_ = -1;
  sigset_t inherited_{};  // the mask for the command
  sigset_t awaited_{};    // what is taken by sigwaitinfo
};

}  // namespace procguard::cli
