// SPDX-License-Identifier: Apache-2.0
// What a subcommand says: its output, and one line if something is wrong.
#pragma once

#include <string>
#include <string_view>

#include "core/result.h"

namespace procguard::cli {

// "procguard: attach: no such process" on stderr. Its status: the error's code.
int fail(std::string_view command, const Error& error);
// The same for an error in the words of the command line, whatever its code; its status is 2.
int fail_usage(std::string_view command, const Error& error);

// To stdout, at once. It is no failure, and nothing is said, if nobody reads it any more (a broken
// pipe).
enum class Written { kYes, kNobodyReads, kFailed };
Written write_out(std::string_view command, std::string_view text);
// The same where nothing follows: the status.
int print_out(std::string_view command, std::string_view text);

// One line whatever stands in it: what is no printable ASCII as \xNN. (A backslash stays: parts of
// it may have been escaped before.)
std::string one_line(std::string_view text);

}  // namespace procguard::cli
