// SPDX-License-Identifier: Apache-2.0
// The end of a session: when there is nothing left to wait for, and what is asked before it is
// over.
#include <algorithm>
#include <chrono>
#include <csignal>
#include <thread>

#include "cli/session.h"

namespace procguard::cli {
namespace {

// Leftovers that cannot be killed (asleep in the kernel, another user's) are given up after this.
constexpr core::Ns kSweepPatience = 5 * core::kSecond;
constexpr core::Ns kFarewell = 2 * core::kSecond;
constexpr core::Ns kSweepWait = 5 * core::kMillisecond;

// What was used as far as anybody has seen: of threads that have ended /proc tells nothing.
pg_usage at_least(pg_usage usage, const pg_usage& seen) {
  const auto raise = [](__u64& value, __u64 other) { value = std::max(value, other); };
  raise(usage.cpu_ns, seen.cpu_ns);
  raise(usage.runnable_wait_ns, seen.runnable_wait_ns);
  raise(usage.voluntary_switches, seen.voluntary_switches);
  raise(usage.involuntary_switches, seen.involuntary_switches);
  for (int state = 0; state < PG_BLOCKED_STATES; ++state) {
    raise(usage.blocked_ns[state], seen.blocked_ns[state]);
  }
  return usage;
}

}  // namespace

// Is there anything left to wait for?
void Session::consider_end() {
  if (!command_ended_ || done_ || controller_->busy()) {
    return;
  }
  if (guard_ == 0 || give_up_waiting_ || living_members() == 0) {
    done_ = true;
    return;
  }
  if (ladder_goes_on() || sweep_at_ != core::kNever) {
    return;
  }
  switch (options_.leftovers) {
    case Leftovers::kLeave:
      done_ = true;
      return;
    case Leftovers::kWait:
      return;
    case Leftovers::kKill:
      kill_leftovers();
      return;
  }
}

// A limit tripped and its later steps are still to come: members that live on get them.
bool Session::ladder_goes_on() const {
  const pg_guard* guard = controller_->find(guard_);
  return guard->phase == PG_GUARD_ARMED && !options_.dry_run() &&
         std::any_of(std::begin(guard->limit), std::end(guard->limit),
                     [](const pg_limit& limit) { return limit.phase == PG_LIMIT_TRIPPED; });
}

std::uint64_t Session::living_members() {
  if (guard_ == 0 || options_.guard.scope == PG_SCOPE_PROCESS) {
    return 0;
  }
  auto levels = controller_->levels(guard_);
  return levels && !levels->empty ? levels->processes : 0;
}

void Session::kill_leftovers() {
  const pg_guard* guard = controller_->find(guard_);
  const core::TakeStep kill{.resource = PG_TIMEOUT,
                            .index = 0,
                            .step = {.action = PG_ACTION_SIGNAL, .signal = SIGKILL, .wait_ns = 0},
                            .due_ns = clock_.now(),
                            .last = true,
                            .kernel_pid = 0};
  executor_->take(*controller_->target(guard_), guard->watch, kill, -1);
  sweep_at_ = clock_.now() + kSweepWait;
  sweep_until_ = clock_.now() + kSweepPatience;
}

void Session::sweep_leftovers() {
  const core::Ns now = clock_.now();
  const pg_guard* guard = controller_->find(guard_);
  auto alive = executor_->sweep(*controller_->target(guard_), guard->watch);
  const bool over = !alive || alive.value() == 0 || now >= sweep_until_;
  give_up_waiting_ = give_up_waiting_ || over;
  sweep_at_ = over ? core::kNever : now + kSweepWait;
}

// Everybody has begun to exit; waits until they have.
void Session::see_them_off() {
  const core::Ns until = clock_.now() + kFarewell;
  departures_.wait(kFarewell);
  while (cgroup_ && clock_.now() < until) {
    auto populated = cgroup_->populated();
    if (!populated || !populated.value()) {
      return;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

void Session::finish() {
  if (record_.ended_ns == 0) {
    record_.ended_ns = clock_.now();
  }
  if (record_.started_ns == 0) {
    record_.started_ns = record_.ended_ns;
  }
  if (guard_ == 0) {
    return;
  }
  const bool signalled = record_.ending.tripped || options_.leftovers == Leftovers::kKill;
  if (signalled && command_ended_ && living_members() == 0) {
    see_them_off();
  }
  if (auto levels = controller_->levels(guard_)) {
    record_.levels = levels.value();
    record_.degraded = record_.degraded || levels->degraded;
  }
  if (auto usage = controller_->usage(guard_)) {
    record_.usage = at_least(usage->total, record_.look ? record_.look->total : pg_usage{});
  }
  controller_->release(guard_);
}

}  // namespace procguard::cli
