// SPDX-License-Identifier: Apache-2.0
#include "core/guard.h"

#include <algorithm>
#include <cstring>

namespace procguard::core {
namespace {

constexpr std::uint32_t kNotStarted = 0;  // pg_guard.phase between make_guard() and Start
// The steps stand on a grid unless one comes late by more than this part of the wait after it.
constexpr Ns kGridTolerance = 10;

bool is_memory(std::uint32_t resource) {
  return resource == PG_MEMORY || resource == PG_MEMORY_GROWTH;
}

bool can_step(const pg_limit& limit) {
  return limit.phase != PG_LIMIT_NONE && limit.phase != PG_LIMIT_DONE;
}

// One call of step(): the guard, the time, and what came of it.
class Machine {
 public:
  Machine(pg_guard& guard, Ns now) : guard_(guard), now_(now) {}

  void on(const Start& start);
  void on(const Tick&) { take_due(); }
  void on(const Progress&);
  void on(const Level& level);
  void on(const KernelActed& acted);
  void on(const StepResult& result);
  void on(const TargetGone&) { end(PG_GUARD_ENDED, PG_EVENT_TARGET_EXITED); }
  void on(const Release&) { end(PG_GUARD_RELEASED, PG_EVENT_RELEASED); }
  void on(const SetLimit& set);

  Actions take_actions() { return std::move(actions_); }

 private:
  bool armed() const { return guard_.phase == PG_GUARD_ARMED; }
  void to_foot(std::uint32_t resource);
  void go_over(std::uint32_t resource, Ns over_since, std::uint64_t observed);
  void go_under(std::uint32_t resource, std::uint64_t observed);
  void take_due();
  std::uint32_t earliest_due() const;
  bool merges(std::uint32_t resource) const;
  void merge(std::uint32_t resource);
  void begin(std::uint32_t resource, Ns at, pg_by by, std::uint32_t kernel_pid);
  void advance(std::uint32_t resource);
  void end(pg_guard_phase phase, pg_event_kind kind);
  void emit(const pg_event& event) { actions_.push_back(Emit{event}); }
  void emit_step(std::uint32_t resource, std::uint32_t index, Ns at, Ns due, pg_by by,
                 pg_result result, int error);

  pg_guard& guard_;
  const Ns now_;
  Actions actions_;
};

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
  limit.base = now_;
  if (limit.phase == PG_LIMIT_TRIPPED) {
    go_under(PG_TIMEOUT, elapsed);
  } else {
    to_foot(PG_TIMEOUT);
  }
}

void Machine::on(const Level& level) {
  const std::uint32_t r = level.resource;
  if (!armed() || (r != PG_CPU && !is_memory(r)) || !can_step(guard_.limit[r])) {
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
  } else if (limit.phase == PG_LIMIT_OVER) {
    limit.observed = observed;
  }
  take_due();
}

void Machine::on(const KernelActed& acted) {
  const std::uint32_t r = acted.resource;
  if (!armed() || !is_memory(r) || !can_step(guard_.limit[r])) {
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
  }
  if (!armed() || !can_step(limit)) {
    return;
  }
  // Memory: the level that follows says what the new limit means. Time is known here.
  if (added || (r == PG_TIMEOUT && limit.phase == PG_LIMIT_WAITING)) {
    to_foot(r);
  } else if (r == PG_TIMEOUT && saturating_add(limit.base, limit.limit) > now_) {
    go_under(r, saturating_sub(now_, limit.base));
  } else if (r == PG_CPU && limit.phase != PG_LIMIT_WAITING && limit.observed < limit.limit) {
    go_under(r, limit.observed);
  }
  take_due();
}

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
  if (!armed() || guard_.step_result == PG_RESULT_INTENT) {
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

}  // namespace

Actions step(pg_guard& guard, const Input& input, Ns now) {
  Machine machine(guard, now);
  std::visit([&](const auto& in) { machine.on(in); }, input);
  return machine.take_actions();
}

Ns next_due(const pg_guard& guard) {
  Ns first = kNever;
  if (guard.phase != PG_GUARD_ARMED) {
    return first;
  }
  for (const pg_limit& limit : guard.limit) {
    if (can_step(limit) && limit.due_ns != 0) {
      first = std::min<Ns>(first, limit.due_ns);
    }
  }
  return first;
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
