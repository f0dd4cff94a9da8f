// SPDX-License-Identifier: Apache-2.0
#include "engine/thresholds.h"

#include <algorithm>
#include <iterator>

namespace procguard::engine {
namespace {

bool acts(const pg_guard& guard) {
  return guard.phase == PG_GUARD_ARMED && guard.paused_ns == 0;
}

std::uint32_t kernel_signal(const pg_guard& guard, const pg_limit& limit) {
  const pg_step& first = guard.ladder[0];
  const bool may = guard.mode == PG_MODE_ENFORCE && limit.grace_ns == 0;
  return may && first.action == PG_ACTION_SIGNAL ? first.signal : 0;
}

// One limit's bytes with what the kernel is to send there.
struct Place {
  std::uint64_t bytes = 0;
  int slot = 0;
  std::uint32_t signal = 0;
  bool fresh = false;  // some guard has not been over it
};

// The same bytes once.
std::vector<Place> places_of(const Demand& demand) {
  std::vector<Place> places;
  for (const Demand::Memory& wanted : demand.memory) {
    auto known = std::find_if(places.begin(), places.end(),
                              [&](const Place& place) { return place.bytes == wanted.bytes; });
    if (known == places.end()) {
      places.push_back({wanted.bytes, wanted.slot, wanted.kernel_signal, !wanted.over});
      continue;
    }
    if ((!known->fresh && !wanted.over) || known->signal == 0) {
      known->signal = wanted.kernel_signal;
    }
    known->fresh = known->fresh || !wanted.over;
  }
  return places;
}

// Does a last step take the place of the one that the failsafe has so far (0: none)?
bool comes_first(std::uint32_t signal, std::uint64_t at, std::uint32_t other_signal,
                 std::uint64_t other_at) {
  constexpr std::uint32_t kKill = 9;
  if (other_at == 0 || (signal == kKill) != (other_signal == kKill)) {
    return other_at == 0 || signal == kKill;
  }
  return at < other_at;
}

// From the crossing to the last step: of a ladder that has begun, its rest too.
core::Ns failsafe_grace(const pg_guard& guard, pg_resource resource) {
  const pg_limit& limit = guard.limit[resource];
  if (limit.phase != PG_LIMIT_TRIPPED) {
    return limit.grace_ns;
  }
  return core::saturating_sub(core::last_step_due(guard, resource), limit.over_since_ns);
}

int slot_in_force(const Thresholds& in_force, std::uint64_t bytes) {
  for (int slot = 0; slot < 2; ++slot) {
    if (in_force.memory[slot].bytes == bytes) {
      return slot;
    }
  }
  return -1;
}

// The nearest on each side of the level.
std::vector<Place> nearest(const std::vector<Place>& places, std::uint64_t level) {
  const Place* above = nullptr;
  const Place* below = nullptr;
  for (const Place& place : places) {
    if (place.bytes >= level && (above == nullptr || place.bytes < above->bytes)) {
      above = &place;
    } else if (place.bytes < level && (below == nullptr || place.bytes > below->bytes)) {
      below = &place;
    }
  }
  std::vector<Place> chosen;
  for (const Place* place : {above, below}) {
    if (place != nullptr) {
      chosen.push_back(*place);
    }
  }
  return chosen;
}

}  // namespace

bool in_force(const pg_limit& limit) {
  return limit.phase != PG_LIMIT_NONE && limit.phase != PG_LIMIT_DONE;
}

// The kernel compares signed numbers; more than that is never reached.
std::uint64_t bound(const pg_limit& limit) {
  return std::min<std::uint64_t>(core::saturating_add(limit.base, limit.limit), INT64_MAX);
}

void add_demand(const pg_guard& guard, Demand& demand) {
  if (!acts(guard)) {
    return;
  }
  for (int slot = 0; slot < 2; ++slot) {
    const pg_limit& limit = guard.limit[kMemorySlots[slot]];
    if (in_force(limit)) {
      demand.memory.push_back({guard.id, slot, bound(limit), kernel_signal(guard, limit),
                               limit.phase != PG_LIMIT_WAITING});
    }
  }
  const pg_limit& cpu = guard.limit[PG_CPU];
  if (in_force(cpu) && cpu.phase == PG_LIMIT_WAITING) {
    demand.cpu_ns = demand.cpu_ns == 0 ? bound(cpu) : std::min(demand.cpu_ns, bound(cpu));
  }
}

Thresholds choose(const Demand& demand, std::uint64_t level, const Thresholds& in_force) {
  Thresholds chosen;
  chosen.cpu_ns = demand.cpu_ns;
  std::vector<Place> places = places_of(demand);
  if (places.size() > 2) {
    places = nearest(places, level);
  }
  bool taken[2] = {false, false};
  // Who has a slot keeps it: its crossings are counted there.
  std::stable_sort(places.begin(), places.end(), [&](const Place& one, const Place& other) {
    return slot_in_force(in_force, one.bytes) >= 0 && slot_in_force(in_force, other.bytes) < 0;
  });
  for (const Place& place : places) {
    const int kept = slot_in_force(in_force, place.bytes);
    int slot = kept >= 0 ? kept : place.slot;
    slot = taken[slot] ? 1 - slot : slot;
    taken[slot] = true;
    // In a new slot what is over already would be a new crossing to the kernel.
    const bool may = kept == slot || place.fresh;
    chosen.memory[slot] = {.bytes = place.bytes, .kernel_signal = may ? place.signal : 0};
  }
  return chosen;
}

bool same(const Thresholds& a, const Thresholds& b) {
  return a.cpu_ns == b.cpu_ns &&
         std::equal(std::begin(a.memory), std::end(a.memory), std::begin(b.memory),
                    [](const Thresholds::Memory& m, const Thresholds::Memory& n) {
                      return m.bytes == n.bytes && m.kernel_signal == n.kernel_signal;
                    });
}

bool is_kernels_step(const pg_guard& guard, const pg_limit& limit, std::uint32_t signal) {
  return signal != 0 && acts(guard) && in_force(limit) && kernel_signal(guard, limit) == signal;
}

bool has_levels(const pg_guard& guard) {
  return in_force(guard.limit[PG_CPU]) || in_force(guard.limit[PG_MEMORY]) ||
         in_force(guard.limit[PG_MEMORY_GROWTH]);
}

void add_failsafe(const pg_guard& guard, Failsafe& failsafe) {
  const pg_step& last = guard.ladder[guard.steps - 1];
  if (!acts(guard) || (guard.flags & PG_GUARD_FAILSAFE) == 0 || guard.mode != PG_MODE_ENFORCE ||
      last.action != PG_ACTION_SIGNAL) {
    return;
  }
  for (const pg_resource resource : kMemorySlots) {
    const pg_limit& limit = guard.limit[resource];
    if (in_force(limit) &&
        comes_first(last.signal, bound(limit), failsafe.memory_signal, failsafe.memory_bytes)) {
      failsafe.memory_bytes = bound(limit);
      failsafe.memory_grace_ns = failsafe_grace(guard, resource);
      failsafe.memory_signal = last.signal;
    }
  }
  const pg_limit& cpu = guard.limit[PG_CPU];
  if (in_force(cpu) && cpu.phase == PG_LIMIT_WAITING &&
      comes_first(last.signal, bound(cpu), failsafe.cpu_signal, failsafe.cpu_ns)) {
    failsafe.cpu_ns = bound(cpu);
    failsafe.cpu_signal = last.signal;
  }
  for (const pg_resource resource : kTimedSteps) {
    const core::Ns due = timed_step_due(guard, resource);
    if (due != core::kNever &&
        comes_first(last.signal, due, failsafe.due_signal, failsafe.due_ns)) {
      failsafe.due_ns = due;
      failsafe.due_signal = last.signal;
    }
  }
}

core::Ns timed_step_due(const pg_guard& guard, pg_resource resource) {
  const bool timed = resource == PG_TIMEOUT ||
                     (resource == PG_CPU && guard.limit[PG_CPU].phase != PG_LIMIT_WAITING);
  return timed ? core::last_step_due(guard, resource) : core::kNever;
}

}  // namespace procguard::engine
