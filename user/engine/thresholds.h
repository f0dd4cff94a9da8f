// SPDX-License-Identifier: Apache-2.0
// Which thresholds a guard wants to be in force on its watch. Pure.
#pragma once

#include "bpf/contract.h"
#include "engine/source.h"

namespace procguard::engine {

// Thresholds::memory by slot.
inline constexpr pg_resource kMemorySlots[2] = {PG_MEMORY, PG_MEMORY_GROWTH};

// For a guard that has begun: its limits with their bases. A limit that is through with its ladder
// has none any more: the kernel must not take first steps for it. The kernel may take the first
// step where it is a signal, nothing has to be waited for, and the guard enforces.
Thresholds thresholds_of(const pg_guard& guard);

bool same(const Thresholds& a, const Thresholds& b);

// Does a limit compare with what a source reads (cpu, memory, memory_growth)?
bool has_levels(const pg_guard& guard);

}  // namespace procguard::engine
