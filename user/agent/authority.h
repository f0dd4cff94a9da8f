// SPDX-License-Identifier: Apache-2.0
// Authority: who may guard what, and how. Pure: facts in, a refusal or nothing out. It is asked
// when a guard is made and when its limits change; each signal asks again about each member
// (executor).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include "bpf/contract.h"
#include "proto/messages.h"

namespace procguard::agent {

// What members of the socket's group may not go beyond. Root may.
struct Ceiling {
  std::uint64_t limit[PG_RESOURCES] = {};  // 0 = none; a limit of a guard may not be above it
  std::uint32_t scopes = 0xffffffff;       // bit by enum pg_scope
  std::uint32_t max_guards_per_uid = 1000;
};

struct Asker {
  uid_t uid = static_cast<uid_t>(-1);
  bool same_pid_namespace = false;  // its numbers are ours
  bool root() const { return uid == 0; }
};

// The target as it is now, held by a descriptor.
struct TargetFacts {
  std::uint32_t scope = 0;
  pid_t pid = 0;
  uid_t real_uid = static_cast<uid_t>(-1);
  uid_t saved_uid = static_cast<uid_t>(-1);
  bool kernel_thread = false;
  bool agent = false;                         // it is the agent itself
  bool holds_agent = false;                   // tree or cgroup: the agent is in it
  uid_t cgroup_uid = static_cast<uid_t>(-1);  // owner of the directory
  std::string cgroup;                         // path, printable
};

struct Denial {
  proto::Status status = proto::Status::kNotPermitted;
  std::string text;  // who, what, why, what would be permitted
};

// May it be guarded at all, by this asker, with these limits? `guards`: how many the asker's uid
// has. A ceiling is also a promise that there is a limit: what has one must be limited.
std::optional<Denial> check_attach(const Asker& asker, const TargetFacts& target,
                                   const proto::AttachBody& wanted, const Ceiling& ceiling,
                                   std::uint32_t guards);
// May it name a target by number?
std::optional<Denial> check_number(const Asker& asker);
// May it see everything of, and change, a guard of this owner?
std::optional<Denial> check_owner(const Asker& asker, uid_t owner, std::uint64_t guard);
// May it set these limits (0 = left as it is)?
std::optional<Denial> check_limits(const Asker& asker, const std::uint64_t (&limit)[PG_RESOURCES],
                                   const Ceiling& ceiling);
// Do the fields of a request make sense, whoever asks: scope, flags, ladder, limits, text fields?
std::optional<Denial> check_form(const proto::AttachBody& wanted);

}  // namespace procguard::agent
