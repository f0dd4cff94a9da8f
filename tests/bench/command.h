// SPDX-License-Identifier: Apache-2.0
// Commands started with as little as possible around them: posix_spawn, no output, no threads.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "core/clock.h"
#include "core/result.h"

namespace procguard::bench {

using Arguments = std::vector<std::string>;  // [0] is looked up in PATH

// Its standard input, output and error are /dev/null.
Result<pid_t> spawn(const Arguments& arguments);

// From before its start until it has been reaped. Error: it did not end with status 0.
Result<core::Ns> time_command(const Arguments& arguments);

}  // namespace procguard::bench
