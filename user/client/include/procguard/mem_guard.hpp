// SPDX-License-Identifier: Apache-2.0
// Guards of memory.
#pragma once

#include <chrono>
#include <cstdint>
#include <type_traits>
#include <utility>

#include <procguard/guard.hpp>
#include <procguard/procguard.h>
#include <procguard/types.hpp>

namespace procguard {

struct MemoryOptions {
  Bytes max_memory;
  bool absolute = true;                     // false: above the RSS at entry
  std::chrono::nanoseconds grace_period{};  // how long it may be over the limit
  std::chrono::nanoseconds secondary_grace_period = std::chrono::seconds(5);  // between steps
  InterruptType interrupt_type = InterruptType::exception_then_signal;
  bool send_kill = false;
  std::chrono::nanoseconds check_interval = std::chrono::milliseconds(500);
  const char* name = nullptr;
};

// RSS of the process. Where BPF cannot be had it is read every check_interval.
class MemGuard : public Guard {
 public:
  explicit MemGuard(const MemoryOptions& options) : Guard(convert(options)) {}

  template <typename Function>
  auto operator()(Function&& function) const {
    return Guarded<MemGuard, std::decay_t<Function>>(*this, std::forward<Function>(function));
  }

 private:
  static procguard_options convert(const MemoryOptions& options) {
    procguard_options converted{};
    converted.resource = options.absolute ? PROCGUARD_MEMORY : PROCGUARD_MEMORY_GROWTH;
    converted.interrupt_type = static_cast<std::uint32_t>(options.interrupt_type);
    converted.send_kill = options.send_kill ? 1 : 0;
    converted.limit = options.max_memory.count;
    converted.grace_ns = detail::nanoseconds(options.grace_period, "grace_period");
    const std::uint64_t steps =
        detail::nanoseconds(options.secondary_grace_period, "secondary_grace_period");
    converted.step_grace_ns = steps == 0 ? 1 : steps;
    converted.check_interval_ns = detail::nanoseconds(options.check_interval, "check_interval");
    converted.name = options.name;
    return converted;
  }
};

inline MemGuard mem_guard(const MemoryOptions& options) {
  return MemGuard(options);
}

}  // namespace procguard
