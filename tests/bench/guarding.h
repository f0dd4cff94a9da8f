// SPDX-License-Identifier: Apache-2.0
// Guarding: procguard's own way from the kernel to a signal, put together as `run` does it: BPF
// source, controller, executor, pidfds, one loop, the loop's thread at SCHED_FIFO if it may.
// One guard at a time. One thread.
#pragma once

#include <functional>
#include <memory>

#include "core/guard.h"
#include "engine/bpf_source.h"
#include "engine/controller.h"
#include "engine/pidfd_signaler.h"
#include "sys/event_loop.h"
#include "sys/monotonic_clock.h"

namespace procguard::bench {

// The calling thread's priority is raised for as long as this lives; see sys/sched_fifo.h.
class Priority {
 public:
  Priority();
  ~Priority();
  Priority(const Priority&) = delete;
  Priority& operator=(const Priority&) = delete;
};

// The source without the kernel's own first step: what is left is user space's path.
std::unique_ptr<engine::Source> without_kernel_step(engine::Source& source);

// What user space does between the news and the signal, beyond the bare way; microseconds measured
// with warm caches.
inline constexpr const char* kBeforeTheSignal =
    "before the signal: the member's entry, opening it and the proof that it is still there (5 "
    "us); "
    "after it, where the target waits for our CPU: what /proc says of it, the records (40 us)";

class Guarding final : public engine::EventSink {
 public:
  // kernel_step false: all signals are sent from user space.
  static Result<std::unique_ptr<Guarding>> create(bool kernel_step);

  // Arms and starts a guard on `pid`; the scope is that of the spec.
  Result<void> arm(const core::GuardSpec& spec, pid_t pid);
  void progress() { controller_.progress(guard_); }
  void release();

  // Drives the loop until `done`; an error after some seconds.
  Result<void> run_until(const std::function<bool()>& done);

  // Of this guard, since it was armed.
  int steps() const { return steps_; }
  int back_unders() const { return back_unders_; }
  core::Ns over_since() const { return over_since_; }  // memory, at the last step
  core::Ns due() const { return due_; }                // of the last step

  engine::BpfSource& source() { return *source_; }

 private:
  Guarding(std::unique_ptr<engine::BpfSource> source, sys::EventLoop loop, bool kernel_step);
  void on_event(const pg_guard& guard, const pg_event& event,
                const engine::Outcome* outcome) override;

  sys::MonotonicClock clock_;
  std::unique_ptr<engine::BpfSource> source_;
  std::unique_ptr<engine::Source> limited_;
  engine::PidfdSignaler signaler_;
  engine::Executor executor_;
  engine::Controller controller_;
  sys::EventLoop loop_;
  std::uint64_t guard_ = 0;
  int steps_ = 0;
  int back_unders_ = 0;
  core::Ns over_since_ = 0;
  core::Ns due_ = 0;
};

// Steps that all are `signal`, far apart: only the first is ever taken, and a guard that comes back
// under its limit starts at its foot again.
core::Ladder one_step(int signal);

}  // namespace procguard::bench
