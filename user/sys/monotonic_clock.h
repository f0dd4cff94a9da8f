// SPDX-License-Identifier: Apache-2.0
// MonotonicClock: the real core::Clock. Cannot fail on Linux; any thread.
#pragma once

#include <ctime>

#include "core/clock.h"

namespace procguard::sys {

class MonotonicClock final : public core::Clock {
 public:
  core::Ns now() const override {
    timespec time{};
    ::clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<core::Ns>(time.tv_sec) * core::kSecond + static_cast<core::Ns>(time.tv_nsec);
  }
};

}  // namespace procguard::sys
