// SPDX-License-Identifier: Apache-2.0
// One look at the threads of a target, taken when a limit trips: what the source has counted, and
// what /proc says each is doing. Reads files; never fails: what has ended is left out.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "cli/diagnosis.h"
#include "engine/source.h"
#include "sys/procfs.h"

namespace procguard::cli {

struct ThreadLook {
  engine::ThreadUsage thread;
  std::string syscall;  // name, or "running"; empty: not known
  std::string wchan;    // where in the kernel it sleeps; empty: it does not, or not known
  Activity activity = Activity::kSleeping;
};

struct Look {
  std::vector<ThreadLook> threads;
  std::size_t omitted = 0;  // more than are worth a reader's time
  pg_usage total{};
  core::Ns at_ns = 0;
};

inline constexpr std::size_t kMaxThreadsLooked = 128;

// `usage.threads` beyond kMaxThreadsLooked are counted, not looked at: those that used and grew
// the least.
Look look_at(engine::Usage usage, core::Ns now, const sys::ProcRoot& proc = sys::ProcRoot());

}  // namespace procguard::cli
