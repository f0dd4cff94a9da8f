// SPDX-License-Identifier: Apache-2.0
// From the limits of all guards on one watch to what the watch compares: two memory thresholds and
// one of CPU time, whatever the number of guards. Pure.
#pragma once

#include <cstdint>
#include <vector>

#include "core/guard.h"
#include "engine/source.h"

namespace procguard::engine {

// The memory limits by the slot of Thresholds::memory they take where no other guard wants it.
inline constexpr pg_resource kMemorySlots[2] = {PG_MEMORY, PG_MEMORY_GROWTH};

// What guards want of a watch.
struct Demand {
  struct Memory {
    std::uint64_t guard = 0;
    int slot = 0;  // the one it would take
    std::uint64_t bytes = 0;
    std::uint32_t kernel_signal = 0;
    bool over = false;  // by the guard's own state
  };
  std::vector<Memory> memory;
  std::uint64_t cpu_ns = 0;  // the lowest that is not reached; 0: none
};

// Adds the limits of a guard that is in force; nothing for one that is not.
void add_demand(const pg_guard& guard, Demand& demand);

// Up to two different memory limits have a slot each and keep it. Of more, those nearest to the
// level are in force: the lowest that it may still cross and the highest that it is over; the
// caller comes again after each crossing.
Thresholds choose(const Demand& demand, std::uint64_t level, const Thresholds& in_force);

bool same(const Thresholds& one, const Thresholds& other);

// The limit as the watch's level is compared with it: the guard's base added.
std::uint64_t bound(const pg_limit& limit);
// A limit whose ladder still has steps.
bool in_force(const pg_limit& limit);

// At a threshold on this limit with this signal the kernel's step is this guard's own first one.
bool is_kernels_step(const pg_guard& guard, const pg_limit& limit, std::uint32_t signal);

// The guard has a limit on a level that is in force: CPU or memory.
bool has_levels(const pg_guard& guard);

// Makes `failsafe` what the nearest of the guards want that ask for it: call it for each. A SIGKILL
// goes before other signals, however near: once the kernel has sent one of those it would never
// come to the SIGKILL. A limit whose ladder has begun gets its last step when the ladder would have
// come to it.
void add_failsafe(const pg_guard& guard, Failsafe& failsafe);
// The resources whose last step can be due by the clock alone, and when it is: a timeout's always,
// that of CPU time once its ladder has begun. core::kNever: not by the clock.
inline constexpr pg_resource kTimedSteps[] = {PG_TIMEOUT, PG_CPU};
core::Ns timed_step_due(const pg_guard& guard, pg_resource resource);

}  // namespace procguard::engine
