// SPDX-License-Identifier: Apache-2.0
// The cgroup of a container by the container's id, as runtimes name it: "ID", "libpod-ID",
// "docker-ID.scope", "cri-containerd-ID.scope". No runtime is asked.
#pragma once

#include <string>
#include <string_view>

#include "core/result.h"

namespace procguard::cli {

inline constexpr std::size_t kShortestId = 6;  // hex digits of an id that stand for all of it

enum class IdMatch { kNo, kPrefix, kExact };
// Is a directory of this name the cgroup of the container `id`? Pure.
IdMatch match_container(std::string_view directory, std::string_view id);

// Looks below `point`, where cgroup v2 is mounted; the directory's path. Error codes are exit
// statuses: kAgentUsage (no id at all, or of several containers), kAgentNone.
Result<std::string> find_container(const std::string& point, const std::string& id);

}  // namespace procguard::cli
