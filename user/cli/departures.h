// SPDX-License-Identifier: Apache-2.0
// Departures: processes that were sent a signal, so that `procguard run` can wait until those that
// die of it are really gone. A process stops counting as a member when it begins to exit; giving
// back its memory takes a while longer, and who starts the next job relies on it. One thread.
#pragma once

#include <sys/types.h>

#include <vector>

#include "core/clock.h"
#include "sys/fd.h"

namespace procguard::cli {

class Departures {
 public:
  // What the pidfd holds; it is duplicated. The first kMax are kept.
  void hold(int pidfd);
  void hold_process(pid_t pid);

  // Until all have ended, or `patience` is over.
  void wait(core::Ns patience);

 private:
  static constexpr std::size_t kMax = 256;
  std::vector<sys::Fd> pidfds_;
};

}  // namespace procguard::cli
