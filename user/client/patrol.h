// SPDX-License-Identifier: Apache-2.0
// Patrol: one round over all entries. Finds what is due, feeds the guards' machines, has the steps
// taken, and says when the next round is wanted. No clock, no system call: the time, the memory
// level and who takes steps are given.
//
// Deadlines are not kept in order anywhere: entering and progress are then a store each, and a
// round is some nanoseconds an entry, at deadlines only.
#pragma once

#include <cstdint>

#include "client/entry.h"
#include "core/clock.h"
#include "core/guard.h"

namespace procguard::client {

// The process's RSS, and when it crossed the thresholds that were in force (0: it did not while
// they were: it is not over, or was before).
struct MemoryView {
  std::uint64_t bytes = 0;
  struct Crossing {
    std::uint64_t limit = 0;
    core::Ns over_since_ns = 0;
  } crossings[2];
};

// Takes a step on an entry that is held.
class Stepper {
 public:
  virtual ~Stepper() = default;
  virtual pg_result take(Entry& entry, const procguard_trip& trip) = 0;
  // Breaks a blocking system call of the entry's thread once more: the first time may have been a
  // moment before it blocked.
  virtual void nudge(Entry& entry) = 0;
};

struct Round {
  core::Ns next_ns = core::kNever;  // when the next one is wanted
  // The limits nearest to the level: the lowest that it may still cross, and the highest that it is
  // over. kNever, 0: none.
  std::uint64_t nearest_above = core::kNever;
  std::uint64_t nearest_below = 0;
  core::Ns check_interval_ns = core::kNever;  // the least of the memory guards'
};

// `first`: of the records of threads. The caller is the only one that patrols.
Round patrol(Thread* first, Stepper& stepper, const MemoryView& memory, core::Ns now);

}  // namespace procguard::client
