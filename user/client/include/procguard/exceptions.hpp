// SPDX-License-Identifier: Apache-2.0
// What guards throw, and checkpoint(), which throws it.
#pragma once

#include <cstdint>

#include <procguard/procguard.h>
#include <procguard/types.hpp>

namespace procguard {

// The base of what guards throw. Not a std::exception: code under guard that catches those must not
// swallow it.
class PROCGUARD_API GuardException {
 public:
  explicit GuardException(const Trip& trip) : trip_(trip) {}
  GuardException(const GuardException&) = default;
  GuardException& operator=(const GuardException&) = default;
  virtual ~GuardException() = default;

  virtual const char* what() const noexcept = 0;
  const Trip& trip() const noexcept { return trip_; }
  std::uint64_t guard() const noexcept { return trip_.guard; }  // see Guard::id()

 private:
  Trip trip_;
};

class PROCGUARD_API ExecutionTimeout final : public GuardException {
 public:
  using GuardException::GuardException;
  const char* what() const noexcept override { return "execution timeout"; }
};

class PROCGUARD_API MemoryLimitExceeded final : public GuardException {
 public:
  using GuardException::GuardException;
  const char* what() const noexcept override { return "memory limit exceeded"; }
};

namespace detail {

[[noreturn]] inline void raise(const procguard_trip& trip) {
  if (trip.resource == PROCGUARD_TIMEOUT) {
    throw ExecutionTimeout(Trip(trip));
  }
  throw MemoryLimitExceeded(Trip(trip));
}

inline void raise_pending() {
  procguard_trip trip;
  if (procguard_take(&trip) == 1) {
    raise(trip);
  }
}

}  // namespace detail

// Throws what is pending for the calling thread; no progress.
inline void checkpoint() {
  detail::raise_pending();
}

}  // namespace procguard
