// SPDX-License-Identifier: Apache-2.0
// ProcfsAccounts: what the members of a target use together, from /proc.
//
// Memory: the sum of RSS over address spaces. A forked child counts what it grew beyond its
// parent's RSS at its discovery, until one of the two execs or the parent ends; the plain sum, with
// shared pages counted again, stands beside it. An exec is seen by the program's stack and code
// addresses and its file.
// CPU time: never more than was used, and what /proc tells of it: live members, ended ones as last
// seen, children that members waited for. A process that is born and reaped between two looks by
// somebody outside the tree is missed. A cgroup counts for itself (cpu.stat).
// Pure arithmetic over what it reads; one thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "core/clock.h"
#include "core/result.h"
#include "engine/procfs_members.h"
#include "engine/procfs_options.h"

namespace procguard::engine {

struct ProcfsSums {
  std::uint64_t memory_bytes = 0;
  std::uint64_t memory_plain_bytes = 0;
  std::uint64_t memory_peak_bytes = 0;
  std::uint64_t memory_plain_peak_bytes = 0;
  core::Ns cpu_ns = 0;
};

class ProcfsAccounts {
 public:
  explicit ProcfsAccounts(const ProcfsOptions& options) : options_(options) {}

  // What the members have used so far counts for nothing.
  void begin(ProcfsMembers& members);
  // Reads all members again, after they were refreshed.
  const ProcfsSums& update(ProcfsMembers& members);
  // Books the members that have ended since, so that their time is not lost.
  void settle(ProcfsMembers& members);

 private:
  void update_memory(ProcfsMembers& members);
  void update_cpu(ProcfsMembers& members);
  void place(ProcMember& member, const ProcfsMembers& members);
  void discount_zombies(ProcMember& member) const;
  void look_at_memory(ProcMember& member, const ProcfsMembers& members) const;
  void look_at_cpu(ProcMember& member) const;
  const ProcMember* parent_in(const ProcMember& member, const ProcfsMembers& members) const;
  bool same_program(const ProcMember& one, const ProcMember& other) const;
  std::optional<core::Ns> cgroup_cpu(const ProcfsMembers& members) const;
  core::Ns thread_cpu(const ProcfsMembers& members) const;

  const ProcfsOptions& options_;
  ProcfsSums sums_;
  // Of ended members: their own time as last seen, and with the children they had waited for (of
  // those only who will not show up in a live member's children).
  core::Ns ended_own_ns_ = 0;
  core::Ns ended_unwaited_ns_ = 0;
  core::Ns whole_base_ns_ = 0;  // of the thread or cgroup at the beginning
};

}  // namespace procguard::engine
