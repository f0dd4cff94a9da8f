// SPDX-License-Identifier: Apache-2.0
// What this kernel lets procguard do, found out by trying it: versions lie (backports, configs).
#pragma once

#include <string>

namespace procguard::kernel {

struct Features {
  bool btf = false;              // the kernel describes its types: nothing works without
  bool programs_load = false;    // all programs pass the verifier ...
  bool programs_attach = false;  // ... and attach, the one against fork bombs included
  std::string error;             // of the first thing that failed
  bool exact_sums = false;   // RSS is read exactly; else it lags by up to 32 pages a CPU and part
  bool percpu_rss = false;   // 6.2 and newer: every change of RSS is seen
  bool mm_owner = false;     // CONFIG_MEMCG: whose address space changed; no memory guards without
  bool sched_info = false;   // CONFIG_SCHED_INFO: run-queue wait; else it counts as blocked
  bool signal_task = false;  // 6.13 and newer: BPF programs can signal a task that sleeps
};

// Features::signal_task alone: some milliseconds, nothing is loaded.
bool can_signal_task();

// Loads and attaches everything for a moment and takes it away again; about 60 ms.
Features probe_features();

}  // namespace procguard::kernel
