// SPDX-License-Identifier: Apache-2.0
// Durations and sizes as people write them: "10", "1.5m", "300ms"; "64M", "1.5GiB".
//
// Parsing is exact (integer arithmetic, no floating point) and knows no locale. Errors name the
// text and what was expected. Pure: safe to call from any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/result.h"

namespace procguard::core {

// "inf", and whatever is too long to count: about 292 years. Adding it to a clock cannot overflow.
inline constexpr uint64_t kForeverNs = UINT64_MAX / 2;

// Nanoseconds. A number as strtod(3) takes it (decimal, hexadecimal, exponent, "inf") with a unit:
// s (default), m, h, d, and also ms and us. Rounds up to the next nanosecond, so that a limit is
// never early and nothing above zero becomes zero; saturates at kForeverNs. Negative numbers, NaN
// and anything else are errors. 0 is parsed: what it means is the caller's business.
Result<uint64_t> parse_duration(std::string_view text);

// The same without ms and us: exactly what GNU timeout and sleep take.
Result<uint64_t> parse_gnu_duration(std::string_view text);

// Bytes. Digits with at most one '.', then a unit, case ignored: K M G T, Ki Mi Gi Ti,
// KiB MiB GiB TiB (all powers of 1024), or B. A bare number is refused, and so is KB, which some
// read as 1000 and some as 1024. Rounds up to the next byte; more than INT64_MAX is an error.
Result<uint64_t> parse_size(std::string_view text);

// For people, not for parsing again: "300ms", "1.5s", "2h", "1h2m5s", "infinity". At most three
// decimals.
std::string format_duration(uint64_t ns);

// For people: "512B", "64.0MiB".
std::string format_size(uint64_t bytes);

}  // namespace procguard::core
