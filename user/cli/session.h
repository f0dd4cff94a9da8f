// SPDX-License-Identifier: Apache-2.0
// Session: one `procguard run` from the first file descriptor to the last member's end. Owns the
// parts and the loop that drives them. One a process, in its only thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "cli/child.h"
#include "cli/departures.h"
#include "cli/group_witness.h"
#include "cli/guarding.h"
#include "cli/messages.h"
#include "cli/notify_port.h"
#include "cli/record.h"
#include "cli/recorder.h"
#include "cli/run_options.h"
#include "cli/signal_port.h"
#include "cli/terminal.h"
#include "sys/cgroup.h"
#include "sys/event_loop.h"
#include "sys/monotonic_clock.h"

namespace procguard::cli {

class Session {
 public:
  Session(const RunOptions& options, Messages& messages);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Runs the command to its end. What went wrong is in the record, and has been said.
  RunRecord run();

 private:
  // --- session_start.cpp: before the command runs
  Result<void> prepare();
  Result<void> open_cgroup();
  Result<void> choose(Result<ChosenGuarding> chosen);
  void open_notify();
  Result<void> start();
  Result<void> arm();
  Result<void> watch_fds();
  void warn();
  std::vector<std::string> environment() const;

  // --- session.cpp: while it runs
  void loop();
  void wait_without_loop();
  void on_exec();
  core::Ns next_wake();
  core::Ns next_look() const;
  void on_notify();
  void on_time();
  void fail(const Error& error);

  // --- session_signals.cpp
  void on_signals();
  void on_signal(const Received& received, bool to_group);
  void forward(int signal);
  void reap();
  void on_stopped(int signal);
  void on_ended(int status, std::uint64_t cpu_ns, std::uint64_t max_rss_bytes);

  // --- session_end.cpp
  void consider_end();
  void consider_end_without_agent();
  bool ladder_goes_on() const;
  bool armed() const { return guarding_ && guarding_->guard().id != 0; }
  std::uint64_t living_members();
  void see_them_off();
  void finish();

  GuardingHost host() { return {options_, messages_, clock_, recorder_, departures_}; }

  const RunOptions& options_;
  Messages& messages_;
  RunRecord record_;
  sys::MonotonicClock clock_;
  Terminal terminal_;
  Departures departures_;
  Recorder recorder_;
  std::optional<SignalPort> signals_;
  std::optional<GroupWitness> witness_;
  std::optional<sys::EventLoop> loop_;
  std::optional<sys::Cgroup> cgroup_;
  std::unique_ptr<Guarding> guarding_;
  std::optional<NotifyPort> notify_;
  std::optional<Child> child_;

  bool exec_known_ = false;       // executed, or not: it is known
  bool command_ended_ = false;    // and reaped
  bool give_up_waiting_ = false;  // for members that outlive the command
  bool done_ = false;
  bool leftovers_killed_ = false;
  bool out_of_reach_ = false;  // who keeps the guard, since the command has ended
  bool said_waiting_ = false;
  int forwarded_ = 0;             // the last signal that was passed on
  core::Ns looked_ahead_of_ = 0;  // when the timeout was due that the threads were looked at for
};

}  // namespace procguard::cli
