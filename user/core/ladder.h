// SPDX-License-Identifier: Apache-2.0
// The ladder: the steps of an interrupt and the waits between them. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "bpf/contract.h"
#include "core/clock.h"
#include "core/result.h"

namespace procguard::core {

using Ladder = std::vector<pg_step>;  // 1 to PG_STEPS steps

enum class Preset { kException = 0, kSignal = 1, kExceptionThenSignal = 2 };

inline constexpr Ns kDefaultStepGraceTime = 15 * kSecond;   // timeout, cpu
inline constexpr Ns kDefaultStepGraceMemory = 5 * kSecond;  // memory, memory_growth
inline constexpr Ns kMinStepGrace = 10 * kMillisecond;      // less counts as this

// The specification's ladders; send_kill makes the last signal of the signal presets a SIGKILL.
Ladder preset_ladder(Preset preset, bool send_kill);

// "INT:5s,TERM:10s,KILL": signals with the wait until the next step. A step without a wait takes
// the limit's step grace. Errors: unknown signal, empty step, more than PG_STEPS steps, bad wait.
Result<Ladder> parse_ladder(std::string_view text);

// "INT:5s,TERM:10s,KILL" again, for messages.
std::string format_ladder(const Ladder& ladder);

}  // namespace procguard::core
