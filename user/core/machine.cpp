// SPDX-License-Identifier: Apache-2.0
#include "core/machine.h"

#include <algorithm>

namespace procguard::core {
namespace {

// The steps stand on a grid unless one comes late by more than this part of the wait after it.
constexpr Ns kGridTolerance = 10;

}  // namespace

void Machine::to_foot(std::uint32_t resource) {
  pg_limit& limit = guard_.limit[resource];
  limit.phase = PG_LIMIT_WAITING;
  limit.over_since_ns = 0;
  limit.next_step = 0;
  limit.due_ns = resource == PG_TIMEOUT ? saturating_add(limit.base, limit.limit) : 0;
}

void Machine::go_over(std::uint32_t resource, Ns over_since, std::uint64_t observed) {
  pg_limit& limit = guard_.limit[resource];
  limit.phase = PG_LIMIT_OVER;
  limit.over_since_ns = over_since;
  limit.observed = observed;
  limit.due_ns = saturating_add(over_since, is_memory(resource) ? limit.grace_ns : 0);
  pg_event event = make_event(guard_, PG_EVENT_OVER, resource, now_);
  event.observed = observed;
  event.due_ns = limit.due_ns;
  emit(event);
}

void Machine::go_under(std::uint32_t resource, std::uint64_t observed) {
  to_foot(resource);
  pg_event event = make_event(guard_, PG_EVENT_BACK_UNDER, resource, now_);
  event.observed = observed;
  emit(event);
}

void Machine::take_due() {
  if (!acts() || guard_.step_result == PG_RESULT_INTENT) {
    return;
  }
  for (;;) {
    const std::uint32_t r = earliest_due();
    if (r == PG_RESOURCES) {
      return;
    }
    if (!merges(r)) {
      begin(r, now_, PG_BY_CONTROLLER, 0);
      return;
    }
    merge(r);
  }
}

// The limit whose step is the longest overdue; PG_RESOURCES if none is due.
std::uint32_t Machine::earliest_due() const {
  std::uint32_t first = PG_RESOURCES;
  Ns first_due = now_;
  for (std::uint32_t r = 0; r < PG_RESOURCES; ++r) {
    const pg_limit& limit = guard_.limit[r];
    if (!can_step(limit) || limit.due_ns == 0 || limit.due_ns > first_due) {
      continue;
    }
    if (first == PG_RESOURCES || limit.due_ns < first_due) {
      first = r;
      first_due = limit.due_ns;
    }
  }
  return first;
}

// Did another limit send just this signal just now?
bool Machine::merges(std::uint32_t resource) const {
  const pg_step& step = guard_.ladder[guard_.limit[resource].next_step];
  return step.action == PG_ACTION_SIGNAL && guard_.last_signal == step.signal &&
         guard_.step_resource != resource &&
         saturating_sub(now_, guard_.last_signal_ns) <= kMergeSignals;
}

void Machine::merge(std::uint32_t resource) {
  const std::uint32_t index = guard_.limit[resource].next_step;
  const Ns due = guard_.limit[resource].due_ns;
  advance(resource);
  emit_step(resource, index, now_, due, PG_BY_CONTROLLER, PG_RESULT_MERGED, 0);
}

void Machine::begin(std::uint32_t resource, Ns at, pg_by by, std::uint32_t kernel_pid) {
  pg_limit& limit = guard_.limit[resource];
  const std::uint32_t index = limit.next_step;
  const pg_step& step = guard_.ladder[index];
  const Ns due = limit.due_ns;
  guard_.step_resource = resource;
  guard_.step_index = index;
  guard_.step_result = PG_RESULT_INTENT;
  guard_.step_by = by;
  guard_.step_at_ns = at;
  if (step.action == PG_ACTION_SIGNAL) {
    guard_.last_signal = step.signal;
    guard_.last_signal_ns = at;
  }
  advance(resource);
  actions_.push_back(TakeStep{.resource = static_cast<pg_resource>(resource),
                              .index = index,
                              .step = step,
                              .due_ns = due,
                              .last = limit.phase == PG_LIMIT_DONE,
                              .kernel_pid = kernel_pid});
}

// One step up the ladder: the step that is due counts as taken.
void Machine::advance(std::uint32_t resource) {
  pg_limit& limit = guard_.limit[resource];
  const pg_step& step = guard_.ladder[limit.next_step];
  const Ns due = limit.due_ns;
  if (limit.next_step == 0) {
    limit.tripped_ns = due;
    limit.episodes++;
    if (resource == PG_TIMEOUT) {
      limit.observed = saturating_sub(now_, limit.base);
    }
  }
  limit.next_step++;
  if (limit.next_step == guard_.steps) {
    limit.phase = PG_LIMIT_DONE;
    limit.due_ns = 0;
    return;
  }
  const Ns wait = step.wait_ns != 0 ? step.wait_ns : limit.step_grace_ns;
  const bool late = saturating_sub(now_, due) > wait / kGridTolerance;
  limit.phase = PG_LIMIT_TRIPPED;
  limit.due_ns = saturating_add(late ? now_ : due, wait);
}

void Machine::end(pg_guard_phase phase, pg_event_kind kind) {
  if (guard_.phase != kNotStarted && !armed()) {
    return;
  }
  guard_.phase = phase;
  guard_.ended_ns = now_;
  emit(make_event(guard_, kind, PG_RESOURCES, now_));
}

void Machine::emit_step(std::uint32_t resource, std::uint32_t index, Ns at, Ns due, pg_by by,
                        pg_result result, int error) {
  pg_event event = make_event(guard_, PG_EVENT_STEP, resource, at);
  const pg_limit& limit = guard_.limit[resource];
  event.observed = resource == PG_TIMEOUT ? saturating_sub(at, limit.base) : limit.observed;
  event.due_ns = due;
  event.step = index;
  event.action = guard_.ladder[index].action;
  event.signal = guard_.ladder[index].signal;
  event.by = by;
  event.result = result;
  event.error = static_cast<std::uint32_t>(error);
  emit(event);
}

}  // namespace procguard::core
