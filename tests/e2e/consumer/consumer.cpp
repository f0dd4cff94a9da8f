// SPDX-License-Identifier: Apache-2.0
// A program of somebody else's that uses the installed library: one guard of time, one of memory.
#include <chrono>
#include <cstdio>
#include <memory>
#include <vector>

#include <procguard/procguard.hpp>

using procguard::InterruptType;
using procguard::operator""_MiB;

int main() {
  using namespace std::chrono_literals;
  try {
    auto block =
        procguard::time_guard({.timeout = 20ms, .interrupt_type = InterruptType::exception})
            .enter();
    procguard::sleep_for(60s);
  } catch (const procguard::ExecutionTimeout& timeout) {
    std::printf("%s, step %u\n", timeout.what(), timeout.trip().step);
  }
  const auto guard = procguard::mem_guard({.max_memory = 32_MiB,
                                           .absolute = false,
                                           .interrupt_type = InterruptType::exception,
                                           .check_interval = 10ms});
  try {
    auto block = guard.enter();
    std::vector<std::unique_ptr<std::vector<char>>> hoard;
    for (int i = 0; i < 64; ++i) {
      hoard.push_back(std::make_unique<std::vector<char>>(1 << 20, 'x'));
      block.progress();
    }
    procguard::sleep_for(60s);
  } catch (const procguard::MemoryLimitExceeded& exceeded) {
    std::printf("%s, step %u\n", exceeded.what(), exceeded.trip().step);
  }
  return 0;
}
