// SPDX-License-Identifier: Apache-2.0
// The kernel's futex on a 32-bit word, for waits with a deadline that no destructor has to end.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <cstdint>
#include <ctime>

#include "core/clock.h"

namespace procguard::client {

// Sleeps while the word is `seen`, until `until_ns` (kNever: without end). Returns for any reason.
inline void futex_wait(const std::atomic<std::uint32_t>& word, std::uint32_t seen,
                       core::Ns until_ns = core::kNever) {
  timespec until{};
  until.tv_sec = static_cast<time_t>(until_ns / core::kSecond);
  until.tv_nsec = static_cast<long>(until_ns % core::kSecond);
  ::syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, seen,
            until_ns == core::kNever ? nullptr : &until, nullptr, FUTEX_BITSET_MATCH_ANY);
}

inline void futex_wake_all(const std::atomic<std::uint32_t>& word) {
  ::syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace procguard::client
