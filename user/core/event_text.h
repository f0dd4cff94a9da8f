// SPDX-License-Identifier: Apache-2.0
// A guard event as one line for people: `run -v` and the kernel's trace say the same. Pure.
#pragma once

#include <string>

#include "bpf/contract.h"

namespace procguard::core {

// "guard g1 'import' over memory limit 64.0MiB: 64.1MiB, step 0 due in 1s". No newline; bytes of
// the name that are not printable ASCII come out as '?'. At most kEventTextMax bytes.
std::string event_text(const pg_event& event);

inline constexpr std::size_t kEventTextMax = 255;

}  // namespace procguard::core
