// SPDX-License-Identifier: Apache-2.0
// What this process may do: capabilities, kernel lockdown, resource limits. Without libcap. Any
// thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace procguard::sys {

struct Capabilities {
  std::uint64_t effective = 0;
  // In a user namespace of its own ("rootless") the capabilities count for nothing outside it.
  bool initial_user_namespace = true;

  bool has(int capability) const { return ((effective >> capability) & 1U) != 0; }
};

// `proc_self`: where /proc/self is.
Result<Capabilities> read_capabilities(const std::string& proc_self = "/proc/self");

// "CAP_BPF"; "CAP_63" for a number without a name.
std::string capability_name(int capability);

// The effective ones by name, in the order of their numbers.
std::vector<std::string> capability_names(const Capabilities& capabilities);

// What is missing to load and attach procguard's BPF programs: CAP_BPF and CAP_PERFMON;
// CAP_SYS_ADMIN stands for both. Empty: nothing. Outside the initial user namespace both are
// missing, whatever is effective there.
std::vector<std::string> missing_for_bpf(const Capabilities& capabilities);

// May signal processes of any user (CAP_KILL).
bool may_signal_any(const Capabilities& capabilities);

// Gives up for good all capabilities but these: effective, permitted, inheritable, ambient and
// bounding set, and no program executed later gets more than this one has (PR_SET_NO_NEW_PRIVS). Of
// those to keep, what the process does not have it does not get. It is the calling thread's alone:
// call it before other threads are made. Error: some are still there (to shrink the bounding set
// takes CAP_SETPCAP).
Result<void> keep_only(std::span<const int> capabilities);

// Gives up what the calling thread has: effective, permitted, inheritable and ambient.
Result<void> give_up_all();

enum class Lockdown { kUnknown, kNone, kIntegrity, kConfidentiality };

// "none [integrity] confidentiality": the mode in brackets.
Lockdown parse_lockdown(std::string_view text);
// kUnknown where the kernel has none or securityfs is not mounted.
Lockdown read_lockdown(const std::string& path = "/sys/kernel/security/lockdown");
const char* lockdown_name(Lockdown lockdown);

// A soft and a hard limit; kUnlimited for RLIM_INFINITY.
inline constexpr std::uint64_t kUnlimited = UINT64_MAX;
struct ResourceLimit {
  std::uint64_t soft = 0;
  std::uint64_t hard = 0;
};
struct ResourceLimits {
  ResourceLimit open_files;
  ResourceLimit locked_memory_bytes;
  ResourceLimit processes;
};
ResourceLimits read_resource_limits();

}  // namespace procguard::sys
