// SPDX-License-Identifier: Apache-2.0
// A thread of the library's own in somebody else's program: detached, named, with all signals
// blocked, so that the program's handlers never run on it.
#pragma once

#include "core/result.h"

namespace procguard::client {

// `name`: at most 15 characters. `run` does not return before the process ends.
Result<void> start_native_thread(const char* name, void* (*run)(void*), void* argument);

}  // namespace procguard::client
