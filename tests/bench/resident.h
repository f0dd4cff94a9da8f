// SPDX-License-Identifier: Apache-2.0
// What a process has in memory, as /proc tells: the oracle of the rows about memory.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "core/result.h"

namespace procguard::bench {

struct Resident {
  std::uint64_t total_bytes = 0;
  std::uint64_t anon_bytes = 0;
};

Result<Resident> resident(pid_t pid);

}  // namespace procguard::bench
