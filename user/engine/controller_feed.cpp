// SPDX-License-Identifier: Apache-2.0
// What the source tells of a watch, into the machines of its guards: levels, and what the kernel
// has done by itself.
#include <algorithm>
#include <variant>

#include "engine/controller.h"
#include "engine/members_gone.h"

namespace procguard::engine {
namespace {

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
      if (!each.released && bound(limit) == state.limit &&
          slot_of(watch.in_force, limit, preferred_slot(resource)) == slot &&
          is_kernels_step(each.state, limit, watch.in_force.memory[slot].kernel_signal)) {
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

// Which of its limits a step by the clock was for.
pg_resource Controller::timed_by(const pg_guard& guard, core::Ns due) {
  for (const pg_resource resource : kTimedSteps) {
    if (timed_step_due(guard, resource) == due) {
      return resource;
    }
  }
  return PG_TIMEOUT;
}

// It acted for the nearest of the guards that had asked.
void Controller::feed_failsafe(Watch& watch, const Levels& levels) {
  const std::vector<std::uint64_t> guards = watch.guards;
  const Failsafe nearest = failsafe_of(watch);
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
    } else if (resource == PG_TIMEOUT) {
      resource = timed_by(each.state, own.due_ns);
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

// Since when a guard is over the limit that a slot compares with; `own`: since when it was. A
// crossing that others have seen before it began, or that the limit was over already when it was
// put there, is none of its own.
core::Ns Controller::since_by_slot(const Entry& entry, const ThresholdState& state,
                                   core::Ns own) const {
  if (state.over_since_ns == 0) {
    return 0;
  }
  if (own == 0) {
    return std::max(state.over_since_ns, counts_from(entry));
  }
  const bool moved = state.over_since_ns == state.set_over_since_ns;
  return moved || state.over_since_ns < own ? own : state.over_since_ns;
}

core::Ns Controller::counts_from(const Entry& entry) const {
  const auto anew = begun_anew_.find(entry.state.id);
  return anew == begun_anew_.end() ? entry.state.armed_ns : anew->second;
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
    since = since_by_slot(entry, levels.memory[slot], own);
  } else if (levels.memory_bytes > bound(limit)) {
    since = own != 0 ? own : now;
  } else if (levels.memory_bytes < bound(limit)) {
    since = 0;
  }
  feed(entry,
       core::Level{.resource = resource, .value = levels.memory_bytes, .over_since_ns = since},
       now);
}

// The slot by which members tell whether the kernel has sent this very step to them: its crossing
// is the guard's own, and its signal too. -1: the kernel has sent nothing for this guard.
int Controller::kernels_slot(const Entry& entry, const Watch& watch, const core::TakeStep& step) {
  const bool memory = step.resource == PG_MEMORY || step.resource == PG_MEMORY_GROWTH;
  if (!memory || step.index != 0) {
    return -1;
  }
  const pg_limit& limit = entry.state.limit[step.resource];
  const int slot = slot_of(watch.in_force, limit, preferred_slot(step.resource));
  if (slot < 0 || !is_kernels_step(entry.state, limit, watch.in_force.memory[slot].kernel_signal)) {
    return -1;
  }
  const auto levels = source_.levels(watch.id);
  const bool own =
      step.kernel_pid != 0 || (levels && levels->memory[slot].over_since_ns == limit.over_since_ns);
  return own ? slot : -1;
}

}  // namespace procguard::engine
