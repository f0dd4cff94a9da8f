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
  Outcome outcome =
      executor_.take(watch->target, watch->id, step, kernels_slot(entry, *watch, step));
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

// The limits that the guards' own states ask for now.
Thresholds Controller::wanted_of(const Watch& watch, std::uint64_t level) const {
  return choose(demand_of(watch), level, watch.in_force);
}

// Puts them in force. Other guards' limits may be compared by this for the first time, and nobody
// tells of a crossing that is found by it: the watch is looked at again.
Result<void> Controller::put_in_force(Watch& watch, const Thresholds& wanted) {
  if (auto set = source_.set_thresholds(watch.id, wanted); !set) {
    return set;
  }
  if (watch.guards.size() > 1 && !same(wanted, watch.in_force)) {
    look_again_.insert(watch.id);
  }
  watch.in_force = wanted;
  return {};
}

void Controller::refresh_thresholds(Watch& watch) {
  // The level matters only where there are more limits than slots.
  std::uint64_t level = 0;
  if (watch.guards.size() > 1) {
    if (auto levels = source_.levels(watch.id)) {
      level = levels->memory_bytes;
    }
  }
  const Thresholds wanted = wanted_of(watch, level);
  if (same(wanted, watch.in_force)) {
    return;
  }
  if (auto set = put_in_force(watch, wanted); !set) {
    degrade_all(watch, set.error().code());
  }
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

Failsafe Controller::failsafe_of(const Watch& watch) const {
  Failsafe nearest;
  for (const std::uint64_t id : watch.guards) {
    add_failsafe(guards_.at(id).state, nearest);
  }
  return nearest;
}

void Controller::refresh_failsafe(Watch& watch) {
  const Failsafe wanted = failsafe_of(watch);
  if (wanted != watch.failsafe) {
    put_failsafe(watch, wanted);
  }
}

void Controller::put_failsafe(Watch& watch, const Failsafe& wanted) {
  watch.failsafe = wanted;
  source_.set_failsafe(watch.id, wanted);
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
