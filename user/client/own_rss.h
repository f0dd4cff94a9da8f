// SPDX-License-Identifier: Apache-2.0
// OwnRss: this process's resident memory, from a file of /proc that is opened once and stays open.
// So it can be read where no descriptor is free any more, and where the program has gone out of
// sight of /proc.
#pragma once

#include <atomic>
#include <cstdint>

#include "core/result.h"

namespace procguard::client {

class OwnRss {
 public:
  // The monitor's, if it is not open. A thread's own file stays true as long as the thread lives,
  // which the monitor does; the process's says nothing after main() has called pthread_exit().
  void open();
  // Any thread. Where it is not open, by a file for this once.
  Result<std::uint64_t> read() const;
  // In a fork's child: it is the parent's memory.
  void abandon();

 private:
  std::atomic<int> fd_{-1};
};

}  // namespace procguard::client
