// SPDX-License-Identifier: Apache-2.0
// Time as procguard uses it: CLOCK_MONOTONIC nanoseconds, the clock the BPF programs read too.
#pragma once

#include <cstdint>

namespace procguard::core {

using Ns = std::uint64_t;

inline constexpr Ns kMicrosecond = 1'000;
inline constexpr Ns kMillisecond = 1'000'000;
inline constexpr Ns kSecond = 1'000'000'000;
inline constexpr Ns kNever = UINT64_MAX;  // "no deadline"

// Times and limits may be huge ("never", "no limit"): they saturate, they never wrap.
constexpr Ns saturating_add(Ns a, Ns b) {
  return a > kNever - b ? kNever : a + b;
}
constexpr Ns saturating_sub(Ns a, Ns b) {
  return a > b ? a - b : 0;
}

// Injected wherever the time is asked for, so that tests hold it in their hands.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual Ns now() const = 0;
};

}  // namespace procguard::core
