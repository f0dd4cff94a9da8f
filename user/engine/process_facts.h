// SPDX-License-Identifier: Apache-2.0
// The executor's facts about a process, read from /proc and its cgroup at the moment of the step.
#pragma once

#include "engine/executor.h"
#include "sys/procfs.h"

namespace procguard::engine {

// What cannot be read counts as "no": the signal itself tells whether the process is gone. Looks
// for freezing in cgroup v2 (cgroup.events) and v1 (the task sits in the kernel's refrigerator).
FactsReader process_facts(sys::ProcRoot proc = sys::ProcRoot());

}  // namespace procguard::engine
