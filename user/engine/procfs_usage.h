// SPDX-License-Identifier: Apache-2.0
// What the threads of a target did, from /proc/PID/task: CPU time, waiting for a CPU, switches.
// Only live threads can be asked. How long one was blocked is the rest of its time, booked under
// the state it is in now: /proc does not say more. RSS by thread is not known here.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <utility>

#include "core/clock.h"
#include "engine/procfs_members.h"
#include "engine/procfs_options.h"
#include "engine/source.h"

namespace procguard::engine {

class ProcfsUsage {
 public:
  explicit ProcfsUsage(const ProcfsOptions& options) : options_(options) {}

  // What threads have done so far counts for nothing.
  void begin(const ProcfsMembers& members);
  // `cpu_ns`: of the whole target, ended threads included.
  Usage read(const ProcfsMembers& members, core::Ns cpu_ns) const;

 private:
  using Thread = std::pair<pid_t, std::uint64_t>;  // tid and start time in ticks

  const ProcfsOptions& options_;
  std::map<Thread, pg_usage> base_;
};

}  // namespace procguard::engine
