// SPDX-License-Identifier: Apache-2.0
// Monitor: one native thread a process, started by the first entry. It sleeps until the earliest
// deadline or a crossing of a memory limit, patrols the entries, and takes the steps that are due.
// It never runs code of the program and never waits for it.
//
// Whoever enters stores his entry first and then looks how long the monitor means to sleep; the
// monitor says "wake me for anything" first and then looks at the entries. So one of the two sees
// the other, and entering costs no system call unless its deadline is the earliest.
#pragma once

#include <array>
#include <atomic>
#include <mutex>
#include <optional>

#include "client/deliveries.h"
#include "client/memory_watch.h"
#include "client/patrol.h"
#include "client/steps.h"
#include "sys/event_loop.h"
#include "sys/fd.h"
#include "sys/monotonic_clock.h"

namespace procguard::client {

class Monitor {
 public:
  // The process's. Never destroyed: its thread outlives main().
  static Monitor& instance();

  // See procguard_enter(), procguard_leave().
  int enter(Guard& guard, void* user, procguard_entry& entry);
  int leave(procguard_entry entry, procguard_trip* withdrawn);
  static int suspend(procguard_entry entry);
  int resume(procguard_entry entry);
  // Progress.
  void restart(Entry& entry);
  const char* source_name() const;
  Deliveries& deliveries() { return deliveries_; }
  core::Ns now() const { return clock_.now(); }

 private:
  Monitor();

  Result<void> ensure_started();
  int enter_memory(const Guard& guard, std::uint64_t& rss);
  void left_memory();
  void tell(core::Ns due_ns, std::uint64_t memory_bytes);
  void wake();
  void follow_sources();
  core::Ns turn();
  static void* run(void* self);
  static void before_fork();
  static void after_fork_in_parent();
  static void after_fork_in_child();

  sys::MonotonicClock clock_;
  Deliveries deliveries_;
  ThreadStepper stepper_{deliveries_};
  MemoryWatch memory_{clock_};
  std::atomic<core::Ns> sleeps_until_{core::kNever};
  std::atomic<bool> woken_{false};
  std::atomic<bool> started_{false};
  std::atomic<int> wake_fd_{-1};
  std::mutex start_;
  std::mutex turn_;  // held but for the sleep: fork() waits for it
  std::optional<sys::EventLoop> loop_;
  sys::Fd wake_;
  std::array<int, 2> followed_{-1, -1};  // the memory watch's, in the loop
};

}  // namespace procguard::client
