// SPDX-License-Identifier: Apache-2.0
// Agent: the daemon put together. Owns the loop and everything on it; one thread, but for the
// log's and the closer's. What it guards is in pinned maps: see adopt.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "agent/config.h"
#include "agent/event_log.h"
#include "agent/guards.h"
#include "agent/log.h"
#include "agent/requests.h"
#include "agent/server.h"
#include "agent/sessions.h"
#include "agent/targets.h"
#include "engine/bpf_source.h"
#include "engine/controller.h"
#include "engine/executor.h"
#include "engine/pidfd_signaler.h"
#include "sys/event_loop.h"
#include "sys/monotonic_clock.h"
#include "sys/sched_fifo.h"

namespace procguard::agent {

class Agent {
 public:
  Agent(Config config, Log& log);
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;

  // Takes the lock, loads or adopts, listens. Error codes: EBUSY: another agent has the lock or the
  // socket; EPERM: capabilities are missing; EPROTO: pins of another ABI.
  Result<void> begin();
  // Until it is told to stop (SIGTERM, SIGINT). Guards and pins stay.
  Result<void> run();
  // Releases every guard and removes the pins; no agent may be running.
  static Result<void> tear_down(const Config& config);

 private:
  Result<void> take_lock();
  Result<void> load_or_adopt();
  void take_over();
  void drop_privileges();
  Result<void> watch_signals();
  void on_signal();
  void reload();
  void on_time();
  void after_turn();
  bool idle() const;
  void consider_idle();
  void tell_losses();
  core::Ns next_wake();
  proto::StatusBody status();

  Config config_;
  Log& log_;
  sys::MonotonicClock clock_;
  Targets targets_;
  EventLog events_;
  engine::PidfdSignaler signaler_;
  std::optional<sys::EventLoop> loop_;
  sys::Scheduling scheduling_;
  sys::Fd lock_;
  sys::Fd signals_;
  std::unique_ptr<engine::BpfSource> source_;
  std::optional<Guards> guards_;
  std::optional<engine::Executor> executor_;
  std::optional<engine::Controller> controller_;
  std::optional<Sessions> sessions_;
  std::optional<Requests> requests_;
  std::optional<Server> server_;
  core::Ns started_ns_ = 0;
  core::Ns gap_ns_ = 0;
  std::uint64_t adopted_ = 0;
  std::uint64_t losses_told_ = 0;
  bool failsafe_sleepers_ = false;
  core::Ns idle_at_ = core::kNever;      // when the programs are to be detached
  core::Ns watchdog_at_ = core::kNever;  // when the service manager is to hear from us
  core::Ns watchdog_every_ = 0;
  bool stopping_ = false;
};

}  // namespace procguard::agent
