// SPDX-License-Identifier: Apache-2.0
// Guards of time.
#pragma once

#include <chrono>
#include <cstdint>
#include <type_traits>
#include <utility>

#include <procguard/exceptions.hpp>
#include <procguard/guard.hpp>
#include <procguard/procguard.h>
#include <procguard/types.hpp>

namespace procguard {

struct TimeOptions {
  std::chrono::nanoseconds timeout = std::chrono::seconds(60);       // 0 fires at once
  std::chrono::nanoseconds grace_period = std::chrono::seconds(15);  // between steps; least 10 ms
  InterruptType interrupt_type = InterruptType::exception_then_signal;
  bool send_kill = false;  // SIGKILL instead of the last SIGTERM
  std::chrono::nanoseconds check_interval = std::chrono::milliseconds(500);
  const char* name = nullptr;  // under 48 bytes
};

// Wall time since a block was entered or the last progress.
class TimeGuard : public Guard {
 public:
  explicit TimeGuard(const TimeOptions& options) : Guard(convert(options)) {}

  // For the calling thread's innermost block of this guard; without one, for all its blocks. Throws
  // as Block::progress().
  void progress() const {
    if (procguard_guard_progress(get()) != 0) {
      detail::raise_pending();
    }
  }

  template <typename Function>
  auto operator()(Function&& function) const {
    return Guarded<TimeGuard, std::decay_t<Function>>(*this, std::forward<Function>(function));
  }

 private:
  static procguard_options convert(const TimeOptions& options) {
    procguard_options converted{};
    converted.resource = PROCGUARD_TIMEOUT;
    converted.interrupt_type = static_cast<std::uint32_t>(options.interrupt_type);
    converted.send_kill = options.send_kill ? 1 : 0;
    converted.limit = detail::nanoseconds(options.timeout, "timeout");
    const std::uint64_t grace = detail::nanoseconds(options.grace_period, "grace_period");
    converted.step_grace_ns = grace == 0 ? 1 : grace;  // 0 is the ABI's default
    converted.check_interval_ns = detail::nanoseconds(options.check_interval, "check_interval");
    converted.name = options.name;
    return converted;
  }
};

inline TimeGuard time_guard(const TimeOptions& options = {}) {
  return TimeGuard(options);
}

}  // namespace procguard
