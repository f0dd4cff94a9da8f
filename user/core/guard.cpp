// SPDX-License-Identifier: Apache-2.0
#include "core/guard.h"

#include <algorithm>
#include <cstring>

#include "core/machine.h"

namespace procguard::core {
namespace {

constexpr std::uint32_t kKill = 9;

}  // namespace

void Machine::on(const Start& start) {
  if (guard_.phase != kNotStarted) {
    return;
  }
  guard_.phase = PG_GUARD_ARMED;
  guard_.armed_ns = now_;
  guard_.limit[PG_TIMEOUT].base = now_;
  guard_.limit[PG_CPU].base = start.cpu_ns;
  guard_.limit[PG_MEMORY_GROWTH].base = start.rss_bytes;
  for (std::uint32_t r = 0; r < PG_RESOURCES; ++r) {
    if (guard_.limit[r].phase == PG_LIMIT_NONE) {
      continue;
    }
    to_foot(r);
    pg_event event = make_event(guard_, PG_EVENT_ARMED, r, now_);
    event.due_ns = guard_.limit[r].due_ns;
    emit(event);
  }
}

void Machine::on(const Progress&) {
  pg_limit& limit = guard_.limit[PG_TIMEOUT];
  if (!armed() || !can_step(limit)) {
    return;
  }
  const std::uint64_t elapsed = saturating_sub(now_, limit.base);
  limit.base = guard_.paused_ns != 0 ? guard_.paused_ns : now_;  // resuming adds the pause to it
  if (limit.phase == PG_LIMIT_TRIPPED) {
    go_under(PG_TIMEOUT, elapsed);
  } else {
    to_foot(PG_TIMEOUT);
  }
}

void Machine::on(const Level& level) {
  const std::uint32_t r = level.resource;
  if (!acts() || (r != PG_CPU && !is_memory(r)) || !can_step(guard_.limit[r])) {
    return;
  }
  pg_limit& limit = guard_.limit[r];
  const std::uint64_t observed = saturating_sub(level.value, limit.base);
  Ns over_since = level.over_since_ns;
  if (r == PG_CPU) {
    // Used time never comes back: whoever says "reached" once is right for good.
    if (limit.phase != PG_LIMIT_WAITING) {
      over_since = limit.over_since_ns;
    } else if (over_since == 0 && observed >= limit.limit) {
      over_since = now_;
    }
  }
  // Another over_since than before: it fell below the limit in between, unseen.
  if (limit.phase != PG_LIMIT_WAITING && over_since != limit.over_since_ns) {
    go_under(r, observed);
  }
  if (limit.phase == PG_LIMIT_WAITING && over_since != 0) {
    go_over(r, over_since, observed);
  } else if (limit.phase == PG_LIMIT_OVER || r == PG_CPU) {
    limit.observed = observed;  // of CPU time also on the ladder: a new limit is compared with it
  }
  take_due();
}

void Machine::on(const KernelActed& acted) {
  const std::uint32_t r = acted.resource;
  if (!acts() || !is_memory(r) || !can_step(guard_.limit[r])) {
    return;
  }
  pg_limit& limit = guard_.limit[r];
  const bool present = acted.over_since_ns != 0 && acted.over_since_ns <= acted.at_ns;
  const Ns over_since = present ? acted.over_since_ns : acted.at_ns;
  const std::uint64_t observed = saturating_sub(acted.value, limit.base);
  // The kernel acts over the limit only; the level may have fallen since.
  const std::uint64_t at_crossing = std::max<std::uint64_t>(observed, limit.limit);
  if (limit.phase != PG_LIMIT_WAITING && limit.over_since_ns != over_since) {
    go_under(r, observed);
  }
  if (limit.next_step > 0) {
    return;  // this episode's first step was taken in user space meanwhile
  }
  if (limit.phase == PG_LIMIT_WAITING) {
    go_over(r, over_since, at_crossing);
  }
  begin(r, acted.at_ns, PG_BY_KERNEL, acted.pid);
}

void Machine::on(const StepResult& result) {
  if (guard_.step_result != PG_RESULT_INTENT) {
    return;
  }
  guard_.step_result = result.result;
  const std::uint32_t r = guard_.step_resource;
  pg_limit& limit = guard_.limit[r];
  const bool reached_nobody = result.result == PG_RESULT_FAILED ||
                              result.result == PG_RESULT_IGNORED || result.result == PG_RESULT_GONE;
  if (reached_nobody) {
    guard_.last_signal = 0;  // nothing another limit's step could be merged with
    guard_.last_signal_ns = 0;
  }
  if (result.result == PG_RESULT_IGNORED && armed() && limit.phase == PG_LIMIT_TRIPPED) {
    limit.due_ns = now_;
  }
  emit_step(r, guard_.step_index, guard_.step_at_ns,
            result.due_ns != 0 ? result.due_ns : guard_.step_at_ns,
            static_cast<pg_by>(guard_.step_by), result.result, result.error);
}

void Machine::on(const SetLimit& set) {
  const std::uint32_t r = set.resource;
  if (r >= PG_RESOURCES || set.limit == 0 ||
      (guard_.phase != kNotStarted && guard_.phase != PG_GUARD_ARMED)) {
    return;
  }
  pg_limit& limit = guard_.limit[r];
  const bool added = limit.phase == PG_LIMIT_NONE;
  limit.limit = set.limit;
  if (added) {
    limit.phase = PG_LIMIT_WAITING;
    limit.base = r == PG_MEMORY_GROWTH ? set.level : limit.base;  // it grows from here
  }
  if (armed()) {
    emit(make_event(guard_, PG_EVENT_CHANGED, r, now_));
  }
  if (!armed() || !can_step(limit)) {
    return;
  }
  // Memory: the level that follows says what the new limit means. Time is known here; while the
  // guard is paused it stands.
  const Ns now = guard_.paused_ns != 0 ? guard_.paused_ns : now_;
  if (added || (r == PG_TIMEOUT && limit.phase == PG_LIMIT_WAITING)) {
    to_foot(r);
  } else if (r == PG_TIMEOUT && saturating_add(limit.base, limit.limit) > now) {
    go_under(r, saturating_sub(now, limit.base));
  } else if (r == PG_CPU && limit.phase != PG_LIMIT_WAITING && limit.observed < limit.limit) {
    go_under(r, limit.observed);
  }
  take_due();
}

void Machine::on(const Pause& pause) {
  if (!acts()) {
    return;
  }
  guard_.paused_ns = now_;
  guard_.paused_cpu_ns = pause.cpu_ns;
  guard_.flags |= PG_GUARD_PAUSED;
  emit(make_event(guard_, PG_EVENT_PAUSED, PG_RESOURCES, now_));
}

void Machine::on(const Resume& resume) {
  if (!armed() || guard_.paused_ns == 0) {
    return;
  }
  const Ns stood = saturating_sub(now_, guard_.paused_ns);
  guard_.limit[PG_TIMEOUT].base = saturating_add(guard_.limit[PG_TIMEOUT].base, stood);
  guard_.limit[PG_CPU].base += saturating_sub(resume.cpu_ns, guard_.paused_cpu_ns);
  for (std::uint32_t r = 0; r < PG_RESOURCES; ++r) {
    pg_limit& limit = guard_.limit[r];
    if (limit.phase == PG_LIMIT_OVER && is_memory(r)) {
      to_foot(r);  // its grace begins anew if the level is still over
    } else if (can_step(limit) && limit.due_ns != 0) {
      limit.due_ns = saturating_add(limit.due_ns, stood);
    }
  }
  guard_.paused_ns = 0;
  guard_.flags &= ~static_cast<std::uint32_t>(PG_GUARD_PAUSED);
  emit(make_event(guard_, PG_EVENT_RESUMED, PG_RESOURCES, now_));
}

void Machine::on(const Adopt&) {
  if (!armed() || guard_.step_result != PG_RESULT_INTENT) {
    return;
  }
  const std::uint32_t r = guard_.step_resource;
  const std::uint32_t index = guard_.step_index;
  if (r >= PG_RESOURCES || index >= guard_.steps) {
    return;
  }
  guard_.step_result = PG_RESULT_UNKNOWN;
  emit_step(r, index, guard_.step_at_ns, guard_.step_at_ns, static_cast<pg_by>(guard_.step_by),
            PG_RESULT_UNKNOWN, 0);
  const pg_step& step = guard_.ladder[index];
  if (step.action != PG_ACTION_SIGNAL || step.signal != kKill) {
    return;  // twice the same signal is more than was asked for
  }
  guard_.step_result = PG_RESULT_INTENT;
  guard_.step_by = PG_BY_CONTROLLER;
  guard_.step_at_ns = now_;
  actions_.push_back(TakeStep{.resource = static_cast<pg_resource>(r),
                              .index = index,
                              .step = step,
                              .due_ns = now_,
                              .last = index + 1 == guard_.steps,
                              .kernel_pid = 0});
}

void Machine::on(const FailsafeActed& acted) {
  const std::uint32_t r = acted.resource;
  if (!armed() || r >= PG_RESOURCES || !can_step(guard_.limit[r])) {
    return;
  }
  pg_limit& limit = guard_.limit[r];
  const std::uint32_t last = guard_.steps - 1;
  const Ns due = limit.due_ns != 0 ? std::min<Ns>(limit.due_ns, acted.at_ns) : acted.at_ns;
  if (limit.next_step == 0) {
    limit.tripped_ns = acted.at_ns;
    limit.episodes++;
  }
  limit.observed = r == PG_TIMEOUT ? saturating_sub(acted.at_ns, limit.base)
                                   : saturating_sub(acted.value, limit.base);
  limit.next_step = guard_.steps;
  limit.phase = PG_LIMIT_DONE;
  limit.due_ns = 0;
  guard_.step_resource = r;
  guard_.step_index = last;
  guard_.step_result = PG_RESULT_SENT;
  guard_.step_by = PG_BY_KERNEL;
  guard_.step_at_ns = acted.at_ns;
  emit_step(r, last, acted.at_ns, due, PG_BY_KERNEL, PG_RESULT_SENT, 0);
}

Actions step(pg_guard& guard, const Input& input, Ns now) {
  Machine machine(guard, now);
  std::visit([&](const auto& in) { machine.on(in); }, input);
  return machine.take_actions();
}

Ns next_due(const pg_guard& guard) {
  Ns first = kNever;
  if (guard.phase != PG_GUARD_ARMED || guard.paused_ns != 0) {
    return first;
  }
  for (const pg_limit& limit : guard.limit) {
    if (can_step(limit) && limit.due_ns != 0) {
      first = std::min<Ns>(first, limit.due_ns);
    }
  }
  return first;
}

Ns last_step_due(const pg_guard& guard, pg_resource resource) {
  const pg_limit& limit = guard.limit[resource];
  if (guard.phase != PG_GUARD_ARMED || guard.paused_ns != 0 || !can_step(limit) ||
      limit.due_ns == 0) {
    return kNever;
  }
  Ns due = limit.due_ns;
  for (std::uint32_t i = limit.next_step; i + 1 < guard.steps; ++i) {
    const Ns wait = guard.ladder[i].wait_ns;
    due = saturating_add(due, wait != 0 ? wait : limit.step_grace_ns);
  }
  return due;
}

bool active(const pg_guard& guard) {
  return guard.phase == PG_GUARD_ARMED &&
         std::any_of(std::begin(guard.limit), std::end(guard.limit), can_step);
}

pg_event make_event(const pg_guard& guard, pg_event_kind kind, std::uint32_t resource, Ns now) {
  pg_event event{};
  event.abi = PG_ABI;
  event.kind = kind;
  event.at_ns = now;
  event.guard = guard.id;
  event.resource = resource;
  event.limit = resource < PG_RESOURCES ? guard.limit[resource].limit : 0;
  event.pid = guard.pid;
  std::memcpy(event.name, guard.name, sizeof(event.name));
  return event;
}

}  // namespace procguard::core
