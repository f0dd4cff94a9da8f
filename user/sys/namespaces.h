// SPDX-License-Identifier: Apache-2.0
// Namespaces of this process. Any thread.
#pragma once

#include <sys/types.h>

namespace procguard::sys {

// Is this process in the host's first pid namespace, whose pids are the kernel's own numbers? false
// also where /proc does not tell: who must know fails closed.
bool in_host_pid_namespace();

// Likewise of the first user namespace: elsewhere users that it does not know all have one number,
// kUnknownUser.
bool in_host_user_namespace();
inline constexpr uid_t kUnknownUser = 65534;

}  // namespace procguard::sys
