// SPDX-License-Identifier: Apache-2.0
// FakeClock: time that only moves when the test says so.
#pragma once

#include "core/clock.h"

namespace procguard::test {

class FakeClock final : public core::Clock {
 public:
  explicit FakeClock(core::Ns start = 1000 * core::kSecond) : now_(start) {}

  core::Ns now() const override { return now_; }
  void set(core::Ns now) { now_ = now; }
  void advance(core::Ns by) { now_ += by; }

 private:
  core::Ns now_;
};

}  // namespace procguard::test
