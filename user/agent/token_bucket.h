// SPDX-License-Identifier: Apache-2.0
// TokenBucket: so many a second on average, so many at once. Pure.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/clock.h"

namespace procguard::agent {

class TokenBucket {
 public:
  // `per_second` 0: no limit. A burst of 0 counts as 1.
  TokenBucket(std::uint32_t per_second, std::uint32_t burst)
      : interval_(per_second == 0 ? 0 : core::kSecond / per_second),
        room_(interval_ * (std::max<std::uint32_t>(burst, 1) - 1)) {}

  bool take(core::Ns now) {
    const core::Ns full = std::max(full_at_, now);
    if (full - now > room_) {
      return false;
    }
    full_at_ = full + interval_;
    return true;
  }

 private:
  core::Ns interval_;
  core::Ns room_;
  core::Ns full_at_ = 0;  // when all tokens will be there again
};

}  // namespace procguard::agent
