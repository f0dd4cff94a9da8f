// SPDX-License-Identifier: Apache-2.0
// What a thread was at when its limit tripped: spinning, starved, stuck or asleep. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "bpf/contract.h"

namespace procguard::cli {

enum class Activity { kSpinning, kStarved, kStuck, kSleeping };

// "spinning", "starved of CPU", "stuck in a syscall", "sleeping".
const char* activity_name(Activity activity);

// How the time was spent; the three add up to 1, or are all 0 where nothing is known.
struct Shares {
  double cpu = 0;
  double runnable_wait = 0;
  double blocked = 0;
};
Shares shares_of(const pg_usage& usage);

// `state` as in /proc/PID/stat. `syscall`: its name, or empty where it is not known. A thread that
// can run is starved if it waited for a CPU more than twice as long as it had one, else spinning. A
// blocked one is asleep if it asked for a pause or for events, else stuck in its call.
Activity diagnose(char state, std::string_view syscall, const pg_usage& usage);

struct ThreadActivity {
  Activity activity;
  pg_usage usage;
};
// Of all threads together: whoever can run decides; else one stuck thread makes it stuck.
// `total` decides where no thread was left to look at.
Activity diagnose_all(const std::vector<ThreadActivity>& threads, const pg_usage& total);

// "read" for this machine's number of read(2); the number where it has no name here. Names are
// known of calls that can block.
std::string syscall_name(long number);

}  // namespace procguard::cli
