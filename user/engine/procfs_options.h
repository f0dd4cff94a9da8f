// SPDX-License-Identifier: Apache-2.0
// What the procfs source needs from outside; tests put fakes here.
#pragma once

#include <sys/types.h>

#include <functional>

#include "core/clock.h"
#include "core/result.h"
#include "sys/fd.h"
#include "sys/procfs.h"

namespace procguard::engine {

struct ProcfsOptions {
  sys::ProcRoot proc;
  pid_t self = 0;  // the process whose children orphans of a guarded tree become
  // Memory is looked at this often; more often (never more than min_interval) where a limit comes
  // near. CPU time at the earliest moment the budget can run out, at least min_interval apart.
  core::Ns check_interval = 100 * core::kMillisecond;
  core::Ns min_interval = 5 * core::kMillisecond;
  unsigned cpus = 1;  // CPU time cannot pass faster than this many times wall time
  // `self` is a child subreaper (or init), so that orphans come to it.
  std::function<bool()> adopts_orphans;
  std::function<Result<sys::Fd>(pid_t)> open_pidfd;
  std::function<Result<bool>(pid_t, pid_t)> share_address_space;
  std::function<void(int pidfd)> stop;  // with SIGSTOP: members of a doomed tree
};

// The real ones, for the calling process.
ProcfsOptions default_procfs_options();

}  // namespace procguard::engine
