// SPDX-License-Identifier: Apache-2.0
// The end of a session: when there is nothing left to wait for, and what is asked before it is
// over.
#include <algorithm>
#include <chrono>
#include <csignal>
#include <thread>
#include <utility>

#include "cli/session.h"

namespace procguard::cli {
namespace {

constexpr core::Ns kFarewell = 2 * core::kSecond;

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
  if (!command_ended_ || done_ || guarding_->busy()) {
    return;
  }
  if (!armed() || give_up_waiting_) {
    done_ = true;
    return;
  }
  if (guarding_->reach() != Reach::kThere) {
    consider_end_without_agent();
    return;
  }
  if (std::exchange(out_of_reach_, false)) {
    record_.leftovers = living_members();
  }
  if (living_members() == 0) {
    done_ = true;
    return;
  }
  if (ladder_goes_on() || guarding_->ending()) {
    return;
  }
  switch (options_.leftovers) {
    case Leftovers::kLeave:
      done_ = true;
      return;
    case Leftovers::kWait:
      return;
    case Leftovers::kKill:
      done_ = leftovers_killed_;  // who still lives cannot be killed
      if (!leftovers_killed_) {
        leftovers_killed_ = true;
        guarding_->end_members();
      }
      return;
  }
}

// Who lives on, and whether a limit tripped, the next agent tells. It is waited for as long as that
// takes only by who asked for the members to be.
void Session::consider_end_without_agent() {
  out_of_reach_ = true;
  if (guarding_->reach() == Reach::kAwaited) {
    return;
  }
  if (options_.leftovers != Leftovers::kWait || options_.guard.scope == PG_SCOPE_PROCESS) {
    done_ = true;
  } else if (!std::exchange(said_waiting_, true)) {
    messages_.note(record_.name +
                   ": no agent is there to tell who lives on; waiting for the next "
                   "one (TERM or INT ends that)");
  }
}

// A limit tripped and its later steps are still to come: members that live on get them.
bool Session::ladder_goes_on() const {
  const pg_guard& guard = guarding_->guard();
  return guarding_->in_force() && !options_.dry_run() &&
         std::any_of(std::begin(guard.limit), std::end(guard.limit),
                     [](const pg_limit& limit) { return limit.phase == PG_LIMIT_TRIPPED; });
}

std::uint64_t Session::living_members() {
  if (!armed() || options_.guard.scope == PG_SCOPE_PROCESS) {
    return 0;
  }
  auto levels = guarding_->levels();
  return levels && !levels->empty ? levels->processes : 0;
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
  if (!armed()) {
    return;
  }
  const bool signalled = record_.ending.tripped || options_.leftovers == Leftovers::kKill;
  if (signalled && command_ended_ && living_members() == 0) {
    see_them_off();
  }
  if (auto levels = guarding_->levels()) {
    record_.levels = levels.value();
    record_.degraded = record_.degraded || levels->degraded;
  }
  if (auto usage = guarding_->usage()) {
    record_.usage = at_least(usage->total, record_.look ? record_.look->total : pg_usage{});
  }
  guarding_->release();
  const CommandEnd& end = record_.ending.command;
  record_.ended_by_guard = end.signal != 0 && recorder_.has_sent(child_->pid(), end.signal);
}

}  // namespace procguard::cli
