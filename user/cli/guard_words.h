// SPDX-License-Identifier: Apache-2.0
// The words by which a user means a guard, or a time. Pure.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/result.h"
#include "proto/messages.h"

namespace procguard::cli {

// "g12", "12": by number; anything else that can be a name: by name.
Result<proto::RefBody> parse_guard(std::string_view text);

// Would parse_guard() take it for a number? Then nobody could mean a guard of that name.
bool is_guard_number(std::string_view text);

// The agent's answer about a guard. Lists have guards as well that programs show: their numbers
// begin here, and the agent can do nothing to them.
inline constexpr std::uint64_t kFirstShownId = 1ULL << 48;
Error about_guard(const Error& error, const proto::RefBody& guard);

// What `procguard run` calls a guard that it keeps itself: no agent gives this number.
inline constexpr const char* kOwnGuard = "g0";

// From where on events are wanted; 0: from the first that is kept.
struct Since {
  std::uint64_t seq = 0;      // those with a higher number
  std::uint64_t real_ns = 0;  // and not before, CLOCK_REALTIME
};

// "10m": so long ago; "@17": after event 17; "2026-01-31T12:00:00Z", also with decimals: since
// then.
Result<Since> parse_when(std::string_view text, std::uint64_t now_real_ns);

}  // namespace procguard::cli
