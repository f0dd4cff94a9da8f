// SPDX-License-Identifier: Apache-2.0
// The BPF programs that this process holds, as the kernel describes them: procguard keeps its own
// behind its layers, but their descriptors are ours to look at.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/result.h"

namespace procguard::bench {

struct ProgramInfo {
  int fd = -1;       // borrowed: its holder closes it
  std::string name;  // as the kernel cuts it, 15 characters
  std::uint64_t verified_instructions = 0;
  std::uint64_t run_ns = 0;  // while BPF_STATS_RUN_TIME is on
  std::uint64_t runs = 0;
};

Result<ProgramInfo> program_info(int fd);
Result<std::vector<ProgramInfo>> own_programs();
// The one with this name, which may be longer than the kernel's.
Result<ProgramInfo> own_program(const std::string& name);

}  // namespace procguard::bench
