// SPDX-License-Identifier: Apache-2.0
// Looking at processes from tests, by what they carry in their environment, and waiting for
// conditions with a deadline.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <string>
#include <vector>

namespace procguard::test {

// A Subprocess and all its descendants have PROCGUARD_TEST_ID=<its id> in their environment.
inline constexpr const char* kMarker = "PROCGUARD_TEST_ID";

// Live (not zombie) processes that carry this PROCGUARD_TEST_ID.
std::vector<pid_t> survivors(const std::string& id);
// Waits until there are none; what is left at the deadline.
std::vector<pid_t> wait_for_no_survivors(
    const std::string& id, std::chrono::nanoseconds deadline = std::chrono::seconds(5));
// Kills them until none is left; how many were killed.
int kill_survivors(const std::string& id);

// Polls `condition` until it is true; false at the deadline.
bool wait_until(const std::function<bool()>& condition,
                std::chrono::nanoseconds deadline = std::chrono::seconds(10));

// The state letter of /proc/PID/stat ('R', 'S', 'T', 'Z', ...); 0 if there is no such process.
char process_state(pid_t pid);

}  // namespace procguard::test
