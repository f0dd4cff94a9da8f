// SPDX-License-Identifier: Apache-2.0
// Targets: from what a request brings (a descriptor, or root's number) to a target that is held,
// and to what must be known about it. Reads /proc after it holds the descriptor. One thread.
#pragma once

#include <optional>
#include <string>

#include "agent/authority.h"
#include "engine/source.h"
#include "sys/cgroup.h"
#include "sys/fd.h"
#include "sys/procfs.h"

namespace procguard::agent {

struct HeldTarget {
  engine::Target target;  // owner not filled in
  TargetFacts facts;
  sys::Fd hold;  // a pidfd of the process, or the directory; while it is open nothing is recycled
};

class Targets {
 public:
  explicit Targets(pid_t self) : self_(self) {}

  // `fd`: what came with the body, none if that is nothing to guard. Without a descriptor the
  // number in the body counts, which is for authority to permit.
  std::optional<Denial> resolve(const proto::AttachBody& wanted, sys::Fd fd,
                                HeldTarget& held) const;
  // Fills in whose process it is, for whoever has to own it; still_there() is to be asked after it.
  std::optional<Denial> look_at_owner(HeldTarget& held) const;
  // The process is still the one that was looked at: ask after everything else is done.
  std::optional<Denial> still_there(const HeldTarget& held) const;

  // Real and saved uid of a live process; nothing: it has ended.
  std::optional<sys::Status> status(pid_t pid) const;

 private:
  std::optional<Denial> resolve_process(const proto::AttachBody& wanted, sys::Fd fd,
                                        HeldTarget& held) const;
  std::optional<Denial> resolve_cgroup(sys::Fd fd, HeldTarget& held) const;
  bool descends_from(pid_t ancestor) const;

  sys::ProcRoot proc_;
  pid_t self_;
};

}  // namespace procguard::agent
