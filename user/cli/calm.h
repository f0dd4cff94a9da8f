// SPDX-License-Identifier: Apache-2.0
// Calm: gives up real-time priority for as long as it lives.
//
// For reading /proc of processes that may be ending, and for reaping them. Whoever throws away the
// /proc entries of a thread that has ended goes round in circles while another task is about the
// same. That one may be an ordinary task that waits for this very CPU: with SCHED_FIFO the two
// wait for each other until the kernel's real-time throttle steps in (measured: 0.95 s inside one
// wait4, in which no other signal could have left either).
#pragma once

#include <sched.h>

#include "sys/sched_fifo.h"

namespace procguard::cli {

class Calm {
 public:
  Calm() : was_fifo_(sys::current_scheduling().policy == SCHED_FIFO) {
    if (was_fifo_) {
      const sched_param ordinary{};
      ::sched_setscheduler(0, SCHED_OTHER | SCHED_RESET_ON_FORK, &ordinary);
    }
  }
  Calm(const Calm&) = delete;
  Calm& operator=(const Calm&) = delete;
  ~Calm() {
    if (was_fifo_) {
      sys::request_sched_fifo();
    }
  }

 private:
  bool was_fifo_;
};

}  // namespace procguard::cli
