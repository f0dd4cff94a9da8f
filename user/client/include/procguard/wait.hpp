// SPDX-License-Identifier: Apache-2.0
// Waits that end with what is thrown.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>

#include <procguard/exceptions.hpp>
#include <procguard/procguard.h>
#include <procguard/stops.hpp>

namespace procguard {

// Waits, and throws as soon as something becomes pending.
template <typename Rep, typename Period>
void sleep_for(std::chrono::duration<Rep, Period> time) {
  const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
  if (procguard_sleep(ns > 0 ? static_cast<std::uint64_t>(ns) : 0) == 1) {
    detail::raise_pending();
  }
}

// Waits until `done()`, and throws as soon as something becomes pending for the calling thread. The
// lock is held again when it throws.
template <typename Lock, typename Predicate>
void wait(std::condition_variable_any& condition, Lock& lock, Predicate done) {
  for (;;) {
    const detail::Waiting waiting;
    checkpoint();  // what is pending by now ends no wait any more
    if (condition.wait(lock, waiting.token(), done)) {
      return;
    }
  }
}

}  // namespace procguard
