// SPDX-License-Identifier: Apache-2.0
// From a cgroup's id, which is all that the kernel side tells, back to its directory. Any thread.
#pragma once

#include <cstdint>
#include <string>

#include "core/result.h"

namespace procguard::sys {

// The directory of the cgroup v2 with this id, in the hierarchy that is mounted at `mount_point`.
// Takes CAP_DAC_READ_SEARCH. Error codes: ENOENT: it is gone, or lies outside of what is mounted;
// EMEDIUMTYPE: no cgroup v2 is mounted there; EPERM.
Result<std::string> cgroup_path_of(std::uint64_t id, const std::string& mount_point);

}  // namespace procguard::sys
