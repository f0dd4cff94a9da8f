// SPDX-License-Identifier: Apache-2.0
#include "engine/thresholds.h"

#include <algorithm>

namespace procguard::engine {
namespace {

bool in_force(const pg_limit& limit) {
  return limit.phase != PG_LIMIT_NONE && limit.phase != PG_LIMIT_DONE;
}

// The kernel compares signed numbers; more than that is never reached.
std::uint64_t bound(const pg_limit& limit) {
  return std::min<std::uint64_t>(core::saturating_add(limit.base, limit.limit), INT64_MAX);
}

std::uint32_t kernel_signal(const pg_guard& guard, const pg_limit& limit) {
  const pg_step& first = guard.ladder[0];
  const bool may = guard.mode == PG_MODE_ENFORCE && limit.grace_ns == 0;
  return may && first.action == PG_ACTION_SIGNAL ? first.signal : 0;
}

}  // namespace

Thresholds thresholds_of(const pg_guard& guard) {
  Thresholds thresholds;
  if (guard.phase != PG_GUARD_ARMED) {
    return thresholds;
  }
  for (int slot = 0; slot < 2; ++slot) {
    const pg_limit& limit = guard.limit[kMemorySlots[slot]];
    if (in_force(limit)) {
      thresholds.memory[slot] = {.bytes = bound(limit),
                                 .kernel_signal = kernel_signal(guard, limit)};
    }
  }
  if (in_force(guard.limit[PG_CPU])) {
    thresholds.cpu_ns = bound(guard.limit[PG_CPU]);
  }
  return thresholds;
}

bool same(const Thresholds& a, const Thresholds& b) {
  return a.cpu_ns == b.cpu_ns &&
         std::equal(std::begin(a.memory), std::end(a.memory), std::begin(b.memory),
                    [](const Thresholds::Memory& m, const Thresholds::Memory& n) {
                      return m.bytes == n.bytes && m.kernel_signal == n.kernel_signal;
                    });
}

bool has_levels(const pg_guard& guard) {
  return in_force(guard.limit[PG_CPU]) || in_force(guard.limit[PG_MEMORY]) ||
         in_force(guard.limit[PG_MEMORY_GROWTH]);
}

}  // namespace procguard::engine
