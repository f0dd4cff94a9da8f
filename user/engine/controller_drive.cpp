// SPDX-License-Identifier: Apache-2.0
// The controller's inner half: levels into the machines, steps out of them, events to the world.
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <iterator>
#include <variant>

#include "engine/controller.h"
#include "engine/members_gone.h"

namespace procguard::engine {
namespace {

bool is_memory(std::uint32_t resource) {
  return resource == PG_MEMORY || resource == PG_MEMORY_GROWTH;
}

bool is_merged_memory_step(const pg_event& event) {
  return event.kind == PG_EVENT_STEP && event.result == PG_RESULT_MERGED &&
         is_memory(event.resource);
}

// Which slot compares with this limit; -1: none at present.
int slot_of(const Thresholds& in_force, const pg_limit& limit, int preferred) {
  const std::uint64_t bytes = bound(limit);
  for (const int slot : {preferred, 1 - preferred}) {
    if (in_force.memory[slot].bytes == bytes) {
      return slot;
    }
  }
  return -1;
}

int preferred_slot(std::uint32_t resource) {
  return resource == kMemorySlots[0] ? 0 : 1;
}

}  // namespace

// What is known now goes into this guard's machine; every step of it that is due is taken.
void Controller::drive(Entry& entry) {
  Watch* watch = watch_of(entry);
  // Levels first, also before a step that is due by the clock: an edge may be unread, and a target
  // that is under its limit again must not be signalled.
  Levels levels;
  if (watch != nullptr && !entry.released && read_levels(*watch, levels)) {
    feed_levels(entry, *watch, levels);
  }
  tick(entry);
  if (watch != nullptr) {
    refresh_for(entry, *watch);
  }
  reschedule(entry);
}

// The same for all guards of a watch.
void Controller::drive_watch(Watch& watch) {
  Levels levels;
  if (read_levels(watch, levels)) {
    const std::vector<std::uint64_t> guards = watch.guards;  // a step may end one
    for (const std::uint64_t id : guards) {
      Entry& each = guards_.at(id);
      if (!each.released) {
        feed_levels(each, watch, levels);
        tick(each);
        reschedule(each);
      }
    }
  }
  refresh_thresholds(watch);
  refresh_failsafe(watch);
}

void Controller::tick(Entry& entry) {
  for (core::Ns now = clock_.now(); core::next_due(entry.state) <= now; now = clock_.now()) {
    feed(entry, core::Tick{}, now);
  }
}

// What the kernel did comes before the news that nobody survived it.
bool Controller::read_levels(Watch& watch, Levels& levels) {
  auto read = source_.levels(watch.id);
  if (!read) {
    if (!means_gone(read.error())) {
      degrade_all(watch, read.error().code());
    }
    return false;
  }
  levels = read.value();
  if (levels.degraded) {
    degrade_all(watch, 0);
  }
  if (levels.empty && watch.sweep_at == core::kNever) {
    source_.end_doom(watch.id);
  }
  for (int slot = 0; slot < 2; ++slot) {
    if (levels.memory[slot].kernel_acted) {
      feed_kernel_step(watch, slot, levels);
    }
    source_.acknowledge(watch.id, slot, levels.memory[slot]);
  }
  if (levels.failsafe_acted_ns != 0) {
    feed_failsafe(watch, levels);
    source_.acknowledge_failsafe(watch.id);  // it may act again while no agent runs
  }
  return true;
}

// The kernel took the first step of whoever's limit is in force there.
void Controller::feed_kernel_step(Watch& watch, int slot, const Levels& levels) {
  const ThresholdState& state = levels.memory[slot];
  const std::vector<std::uint64_t> guards = watch.guards;
  for (const std::uint64_t id : guards) {
    Entry& each = guards_.at(id);
    for (const pg_resource resource : kMemorySlots) {
      const pg_limit& limit = each.state.limit[resource];
      if (!each.released && in_force(limit) && bound(limit) == state.limit &&
          slot_of(watch.in_force, limit, preferred_slot(resource)) == slot &&
          each.state.ladder[0].signal == watch.in_force.memory[slot].kernel_signal) {
        feed(each,
             core::KernelActed{.resource = resource,
                               .pid = state.kernel_acted_pid,
                               .at_ns = state.kernel_acted_ns,
                               .value = levels.memory_bytes,
                               .over_since_ns = state.over_since_ns},
             clock_.now());
        return;
      }
    }
  }
}

// It acted for the nearest of the guards that had asked.
void Controller::feed_failsafe(Watch& watch, const Levels& levels) {
  const std::vector<std::uint64_t> guards = watch.guards;
  Failsafe nearest;
  for (const std::uint64_t id : guards) {
    add_failsafe(guards_.at(id).state, nearest);
  }
  for (const std::uint64_t id : guards) {
    Entry& each = guards_.at(id);
    Failsafe own;
    add_failsafe(each.state, own);
    auto resource = static_cast<pg_resource>(levels.failsafe_resource);
    const bool acted =
        (resource == PG_MEMORY && own.memory_bytes != 0 &&
         own.memory_bytes == nearest.memory_bytes && own.memory_signal == nearest.memory_signal) ||
        (resource == PG_CPU && own.cpu_ns != 0 && own.cpu_ns == nearest.cpu_ns &&
         own.cpu_signal == nearest.cpu_signal) ||
        (resource == PG_TIMEOUT && own.due_ns != 0 && own.due_ns <= levels.failsafe_acted_ns &&
         own.due_signal == nearest.due_signal);
    if (!acted) {
      continue;
    }
    if (resource == PG_MEMORY && !in_force(each.state.limit[PG_MEMORY])) {
      resource = PG_MEMORY_GROWTH;
    }
    feed(
        each,
        core::FailsafeActed{.resource = resource,
                            .pid = levels.failsafe_acted_pid,
                            .at_ns = levels.failsafe_acted_ns,
                            .value = resource == PG_CPU ? levels.cpu_ns : levels.memory_peak_bytes},
        clock_.now());
  }
}

void Controller::feed_levels(Entry& entry, const Watch& watch, const Levels& levels) {
  feed_memory(entry, watch, PG_MEMORY, levels);
  feed_memory(entry, watch, PG_MEMORY_GROWTH, levels);
  const bool gone = watch.target.scope == PG_SCOPE_CGROUP ? levels.removed : levels.empty;
  if (gone) {
    feed(entry, core::TargetGone{}, clock_.now());
    return;
  }
  const pg_limit& cpu = entry.state.limit[PG_CPU];
  if (in_force(cpu)) {
    const bool compared = watch.in_force.cpu_ns == bound(cpu);
    feed(entry,
         core::Level{.resource = PG_CPU,
                     .value = levels.cpu_ns,
                     .over_since_ns = compared ? levels.cpu.over_since_ns : 0},
         clock_.now());
  }
}

// Since when a guard is over a limit: by the slot that compares with it, or, of a limit that is not
// among the nearest, by the level.
void Controller::feed_memory(Entry& entry, const Watch& watch, pg_resource resource,
                             const Levels& levels) {
  const pg_limit& limit = entry.state.limit[resource];
  if (!in_force(limit)) {
    return;
  }
  const core::Ns now = clock_.now();
  const core::Ns own = limit.phase == PG_LIMIT_WAITING ? 0 : limit.over_since_ns;
  const int slot = slot_of(watch.in_force, limit, preferred_slot(resource));
  core::Ns since = own;
  if (slot >= 0) {
    const ThresholdState& state = levels.memory[slot];
    // Over when it was put there, and since: that is no crossing of a limit that was over before.
    const bool moved =
        own != 0 && state.over_since_ns != 0 && state.over_since_ns == state.set_over_since_ns;
    since = moved ? own : state.over_since_ns;
  } else if (levels.memory_bytes > bound(limit)) {
    since = own != 0 ? own : now;
  } else if (levels.memory_bytes < bound(limit)) {
    since = 0;
  }
  feed(entry,
       core::Level{.resource = resource, .value = levels.memory_bytes, .over_since_ns = since},
       now);
}

void Controller::feed(Entry& entry, const core::Input& input, core::Ns now) {
  const core::Actions actions = core::step(entry.state, input, now);
  // The step first, the telling after: a log must not make a signal late.
  core::Actions results;
  Outcome outcome;
  for (const core::Action& action : actions) {
    if (const auto* step = std::get_if<core::TakeStep>(&action)) {
      outcome = take(entry, *step);
      results =
          core::step(entry.state,
                     core::StepResult{
                         .result = outcome.result, .error = outcome.error, .due_ns = step->due_ns},
                     clock_.now());
    }
  }
  for (const core::Action& action : actions) {
    if (const auto* told = std::get_if<core::Emit>(&action)) {
      const bool step = told->event.kind == PG_EVENT_STEP;
      const Outcome merged{.result = static_cast<pg_result>(told->event.result),
                           .error = 0,
                           .reached = {},
                           .refused = {}};
      if (is_merged_memory_step(told->event)) {
        // This episode's first step is taken: not by the kernel too.
        source_.take_over(entry.state.watch);
      }
      emit(entry, told->event, step ? &merged : nullptr);
    }
  }
  for (const core::Action& action : results) {
    emit(entry, std::get<core::Emit>(action).event, &outcome);
  }
}

Outcome Controller::take(Entry& entry, const core::TakeStep& step) {
  source_.publish(entry.state);  // the intent
  Watch* watch = watch_of(entry);
  if (watch == nullptr) {
    return {.result = PG_RESULT_GONE, .error = 0, .reached = {}, .refused = {}};
  }
  if (entry.state.mode == PG_MODE_MONITOR) {
    return {.result = PG_RESULT_DRY_RUN, .error = 0, .reached = {}, .refused = {}};
  }
  const int slot = is_memory(step.resource)
                       ? slot_of(watch->in_force, entry.state.limit[step.resource],
                                 preferred_slot(step.resource))
                       : -1;
  Outcome outcome = executor_.take(watch->target, watch->id, step, slot);
  const bool group = watch->target.scope == PG_SCOPE_TREE || watch->target.scope == PG_SCOPE_CGROUP;
  if (group && step.step.action == PG_ACTION_SIGNAL && step.step.signal == SIGKILL) {
    begin_sweeping(*watch);
  }
  return outcome;
}

void Controller::emit(Entry& entry, const pg_event& event, const Outcome* outcome) {
  source_.publish(entry.state);
  source_.trace(event);
  sink_.on_event(entry.state, event, outcome);
}

// Says once that this guard may not see everything.
void Controller::degrade(Entry& entry, int error) {
  if (entry.degraded) {
    return;
  }
  entry.degraded = true;
  pg_event event = core::make_event(entry.state, PG_EVENT_DEGRADED, PG_RESOURCES, clock_.now());
  event.error = static_cast<std::uint32_t>(error);
  emit(entry, event, nullptr);
}

void Controller::degrade_all(Watch& watch, int error) {
  const std::vector<std::uint64_t> guards = watch.guards;
  for (const std::uint64_t id : guards) {
    degrade(guards_.at(id), error);
  }
}

Demand Controller::demand_of(const Watch& watch) const {
  Demand demand;
  for (const std::uint64_t id : watch.guards) {
    add_demand(guards_.at(id).state, demand);
  }
  return demand;
}

void Controller::refresh_thresholds(Watch& watch) {
  Demand demand = demand_of(watch);
  // The level matters only where there are more limits than slots.
  std::uint64_t level = 0;
  if (demand.memory.size() > 2) {
    if (auto levels = source_.levels(watch.id)) {
      level = levels->memory_bytes;
    }
  }
  const Thresholds wanted = choose(demand, level, watch.in_force);
  if (same(wanted, watch.in_force)) {
    return;
  }
  if (auto set = source_.set_thresholds(watch.id, wanted); !set) {
    degrade_all(watch, set.error().code());
    return;
  }
  watch.in_force = wanted;
}

// After a change of this guard alone, which has a part in them or not: others are not looked at for
// nothing.
void Controller::refresh_for(const Entry& entry, Watch& watch) {
  const pg_limit(&limits)[PG_RESOURCES] = entry.state.limit;
  if (limits[PG_CPU].phase != PG_LIMIT_NONE || limits[PG_MEMORY].phase != PG_LIMIT_NONE ||
      limits[PG_MEMORY_GROWTH].phase != PG_LIMIT_NONE) {
    refresh_thresholds(watch);
  }
  if ((entry.state.flags & PG_GUARD_FAILSAFE) != 0) {
    refresh_failsafe(watch);
  }
}

void Controller::refresh_failsafe(Watch& watch) {
  Failsafe wanted;
  for (const std::uint64_t id : watch.guards) {
    add_failsafe(guards_.at(id).state, wanted);
  }
  if (wanted != watch.failsafe) {
    watch.failsafe = wanted;
    source_.set_failsafe(watch.id, wanted);
  }
}

void Controller::leave_watch(Entry& entry) {
  entry.released = true;
  Watch* watch = watch_of(entry);
  if (watch == nullptr) {
    return;
  }
  std::erase(watch->guards, entry.state.id);
  if (!watch->guards.empty()) {
    refresh_for(entry, *watch);
  } else if (watch->sweep_at == core::kNever) {
    release_watch(*watch);
  }
}

void Controller::release_watch(Watch& watch) {
  const WatchId id = watch.id;
  const Key key = key_of(watch.target);
  if (auto known = by_target_.find(key); known != by_target_.end() && known->second == id) {
    by_target_.erase(known);
  }
  watches_.erase(id);
  source_.release(id);
}

void Controller::reschedule(Entry& entry) {
  const core::Ns next = core::next_due(entry.state);
  if (next == entry.queued) {
    return;
  }
  deadlines_.erase({entry.queued, entry.state.id});
  entry.queued = next;
  if (next != core::kNever) {
    deadlines_.emplace(next, entry.state.id);
  }
}

}  // namespace procguard::engine
