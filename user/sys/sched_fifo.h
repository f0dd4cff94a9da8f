// SPDX-License-Identifier: Apache-2.0
// Real-time priority for the loop thread: it must get a CPU while the guarded job hogs all of them.
// Acts on the calling thread.
#pragma once

#include <string>

namespace procguard::sys {

struct Scheduling {
  int policy = 0;    // SCHED_OTHER, SCHED_FIFO, ...
  int priority = 0;  // 1 to 99 for the real-time policies
  bool reset_on_fork = false;
  int error = 0;  // errno of the refused request; 0 = granted (or none was made)

  // "SCHED_FIFO 1, reset on fork" or "SCHED_OTHER (SCHED_FIFO refused: Operation not permitted)".
  std::string describe() const;
};

// Asks for SCHED_FIFO 1 with reset-on-fork, so that children the thread starts do not inherit it;
// says what the thread has now.
Scheduling request_sched_fifo();

// What the calling thread has.
Scheduling current_scheduling();

}  // namespace procguard::sys
