// SPDX-License-Identifier: Apache-2.0
// Sizes, and what guards say: which limit, which step.
#pragma once

#include <chrono>
#include <compare>
#include <cstdint>

#include <procguard/procguard.h>

namespace procguard {

// A size in bytes.
struct Bytes {
  std::uint64_t count = 0;
  friend constexpr auto operator<=>(Bytes, Bytes) = default;
};
inline namespace literals {
constexpr Bytes operator""_KiB(unsigned long long n) {
  return {n << 10U};
}
constexpr Bytes operator""_MiB(unsigned long long n) {
  return {n << 20U};
}
constexpr Bytes operator""_GiB(unsigned long long n) {
  return {n << 30U};
}
}  // namespace literals

enum class InterruptType {
  exception = PROCGUARD_EXCEPTION,
  signal = PROCGUARD_SIGNAL,
  exception_then_signal = PROCGUARD_EXCEPTION_THEN_SIGNAL,
};

enum class Resource {
  timeout = PROCGUARD_TIMEOUT,
  memory = PROCGUARD_MEMORY,
  memory_growth = PROCGUARD_MEMORY_GROWTH,
};

// One step of a guard's ladder. Sizes in bytes; a timeout's limit and observed in ns.
struct Trip {
  std::uint64_t guard = 0;
  Resource resource = Resource::timeout;
  unsigned step = 0;
  int signal = 0;  // 0: an exception
  bool last = false;
  bool withdrawn = false;  // an exception that was not thrown before its block was left
  std::uint64_t limit = 0;
  std::uint64_t observed = 0;
  std::chrono::nanoseconds elapsed{};  // since the block was entered

  explicit Trip(const procguard_trip& trip)
      : guard(trip.guard),
        resource(static_cast<Resource>(trip.resource)),
        step(trip.step),
        signal(static_cast<int>(trip.signal)),
        last(trip.last != 0),
        withdrawn(trip.withdrawn != 0),
        limit(trip.limit),
        observed(trip.observed),
        elapsed(static_cast<std::int64_t>(trip.elapsed_ns)) {}
};

}  // namespace procguard
