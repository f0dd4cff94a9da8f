// SPDX-License-Identifier: Apache-2.0
// What a user means to guard, held by a descriptor that the agent gets: no number can come to mean
// something else on the way.
#pragma once

#include <sys/types.h>

#include <string>

#include "bpf/contract.h"
#include "core/result.h"
#include "sys/fd.h"

namespace procguard::cli {

struct TargetWords {
  pg_scope scope = PG_SCOPE_PROCESS;
  pid_t number = 0;       // of a process, or with scope thread of a thread
  std::string cgroup;     // path
  std::string container;  // id; else `cgroup`
};

struct Target {
  sys::Fd fd;  // a pidfd, or the directory of a cgroup
  pid_t tid = 0;
};

// Error codes are exit statuses.
Result<Target> open_target(const TargetWords& words);

}  // namespace procguard::cli
