// SPDX-License-Identifier: Apache-2.0
// procguard doctor: what works on this machine, what does not, what that means, what to do.
//
// collect_facts() looks; diagnose() judges; the rest prints. All but collect_facts() and
// doctor_main() are pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernel/features.h"
#include "sys/caps.h"
#include "sys/cgroup.h"
#include "sys/sched_fifo.h"

namespace procguard::cli {

// What was found, unjudged.
struct Facts {
  std::string release;  // "6.1.0-18-amd64"
  std::string machine;  // "x86_64"
  kernel::Features features;
  sys::Capabilities capabilities;
  bool host_pid_namespace = true;  // pids are the kernel's own numbers
  sys::Lockdown lockdown = sys::Lockdown::kUnknown;
  sys::CgroupMounts cgroups;
  bool cgroup_writable = false;  // the top of the v2 hierarchy
  std::string tracefs;           // where it is mounted; empty: it is not
  std::string bpffs;
  sys::ResourceLimits limits;
  std::uint64_t pid_max = 0;   // 0: not known
  sys::Scheduling scheduling;  // what a thread gets that asks for SCHED_FIFO
  // The host's agent: the errno of connecting to its socket, 0 where it answers.
  std::string agent_socket;
  int agent_error = 0;
  std::string agent_group;  // of the socket; empty: not known, or root's alone
};

enum class CheckStatus { kOk, kWarn, kMissing };

struct Check {
  std::string id;  // "btf": stays, for scripts
  CheckStatus status = CheckStatus::kOk;
  std::string found;
  std::string means;
  std::string fix;  // empty: nothing to do
};

Facts collect_facts();
// doctor_agent.cpp: the checks about the agent.
std::vector<Check> diagnose_agent(const Facts& facts);
std::vector<Check> diagnose(const Facts& facts);

std::string doctor_text(const Facts& facts, const std::vector<Check>& checks);
// One object: schema, version, kernel, machine, ok, checks[{id,status,found,means,fix}].
std::string doctor_json(const Facts& facts, const std::vector<Check>& checks);

inline constexpr int kDoctorMissing = 5;
// 0: all that procguard needs works; kDoctorMissing: some check is "missing".
int doctor_status(const std::vector<Check>& checks);

// Looks, prints to stdout; the exit code. 1: it could not print.
int doctor_main(bool json);

}  // namespace procguard::cli
