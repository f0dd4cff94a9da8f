// SPDX-License-Identifier: Apache-2.0
// The globals of the BPF programs that user space reads and writes, as they lie in their map. The
// skeleton of this build knows where; pins of another build must lie alike (shared_layout()).
#pragma once

#include <cstdint>

#include "bpf/contract.h"

namespace procguard::kernel {

struct SharedGlobals {
  void* watched = nullptr;  // one bit a pid
  std::size_t watched_bytes = 0;
  std::uint32_t* cgroup_watches = nullptr;
  const std::uint32_t* exact_sums = nullptr;
  pg_enrol* enrol_request = nullptr;
  pg_agent* agent = nullptr;
  pg_event* event_told = nullptr;
};

std::size_t shared_bytes();
SharedGlobals shared_globals(void* mapping);
// A number that is another one where any of them lies elsewhere.
std::uint64_t shared_layout();

}  // namespace procguard::kernel
