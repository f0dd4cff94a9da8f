// SPDX-License-Identifier: Apache-2.0
// What all threads of a process did while they had nothing to do.
#pragma once

#include <sys/types.h>

#include "core/result.h"

namespace procguard::bench {

struct Activity {
  double switches = 0;  // voluntary: each is a wake-up that went to sleep again
  double ticks = 0;
};

// In `seconds`, after it had time to come to rest.
Result<Activity> idle_for(pid_t pid, unsigned seconds);

}  // namespace procguard::bench
