// SPDX-License-Identifier: Apache-2.0
// Names and numbers of signals, as kill(1) and GNU timeout write them. Pure, any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace procguard::core {

// "TERM", "SIGTERM", "term", "15", "RTMIN+3", "RTMAX-2", a shell's status of a killed command
// ("137" = KILL), and "0" or "EXIT", which is 0: no signal. Nothing if it is none of these: also
// for the numbers 32 and 33, which the C library keeps for itself.
std::optional<int> parse_signal(std::string_view text);

// "TERM", "RTMIN+3", "EXIT" for 0; the number if it has no name.
std::string signal_name(int signal);

// "SIGTERM"; the number if it has no name.
std::string signal_full_name(int signal);

}  // namespace procguard::core
