// SPDX-License-Identifier: Apache-2.0
// Executor: takes a step on all members of a guard's target. Never sleeps, never decides; what
// became of it is its return value.
//
// Per scope: a thread gets thread-directed signals, a process its own, a tree and a cgroup every
// member. A catchable signal is followed by SIGCONT, so that a stopped target can act on it. The
// first step of a memory limit spares the members that have it from the kernel. Never a target,
// whatever the source says: PID 1, kernel threads, this process (the answer is "refused").
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

#include "bpf/contract.h"
#include "core/guard.h"
#include "engine/signaler.h"
#include "engine/source.h"

namespace procguard::engine {

struct Outcome {
  pg_result result = PG_RESULT_NONE;
  int error = 0;                // errno of the first failure
  std::vector<pid_t> reached;   // processes that got the signal, from us or from the kernel
  std::vector<pid_t> refused;   // kill(2) says no, or never a target
  bool others_reached = false;  // beside those: processes whose numbers are not known here
};

// Facts about a live process that decide how a step is recorded (read from /proc).
struct ProcessFacts {
  bool kernel_thread = false;
  bool namespace_init = false;  // PID 1 of a pid namespace below ours
  bool handles_signal = false;  // the signal is caught (asked for namespace_init only)
  bool frozen_or_traced = false;
};
using FactsReader = std::function<ProcessFacts(pid_t pid, int signal)>;
// kill(2)'s rule for the target's owner, for a controller that may signal more than the owner may.
// A process that becomes another user's right after the answer gets what it would have got from the
// owner's own kill(2) just before.
using Authority = std::function<bool(const Target& target, pid_t pid)>;

class Executor {
 public:
  // `self`: the process that must never be a target.
  // `authority`: none where the kernel asks the right questions, since the controller is the owner.
  Executor(Source& source, Signaler& signaler, FactsReader facts, pid_t self,
           Authority authority = {})
      : source_(source),
        signaler_(signaler),
        facts_(std::move(facts)),
        self_(self),
        authority_(std::move(authority)) {}

  // Results: sent if anybody got it; pending if all who did are frozen or traced; else, in this
  // order: ignored, refused, failed, gone. SIGKILL on a tree or cgroup marks the watch as doomed
  // first. It is one pass: the caller comes back with sweep() until no member lives. `slot`: which
  // of Thresholds::memory compares with the limit that the step is about; -1: none.
  Outcome take(const Target& target, WatchId watch, const core::TakeStep& step, int slot);

  // Kills what is left of a doomed tree or cgroup; number of members that were still alive and may
  // be killed (one that kill(2) refuses would be swept for ever).
  Result<std::size_t> sweep(const Target& target, WatchId watch);

 private:
  struct Pass;

  bool is_protected(pid_t pid) const { return pid <= 1 || pid == self_; }
  bool doom(WatchId watch, const std::vector<Member>& members);
  bool kill_whole_cgroup(const Target& target, const std::vector<Member>& members);
  bool may_signal(const Target& target, pid_t pid) const;
  void signal_member(Pass& pass, const Member& member);
  void note_sent(Pass& pass, pid_t pid);

  Source& source_;
  Signaler& signaler_;
  FactsReader facts_;
  pid_t self_;
  Authority authority_;
};

}  // namespace procguard::engine
