// SPDX-License-Identifier: Apache-2.0
// GroupWitness: tells whether a signal went to the whole process group or to this process alone.
//
// A command that shares its parent's process group gets a signal for the group from the kernel; one
// for the parent alone must be forwarded. The kernel tells the two apart in nothing that the parent
// can read. So a sibling process that does nothing else sits in the same group with all signals
// blocked: what is pending there went to the group. It sleeps until it is asked or its parent ends.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "core/result.h"
#include "sys/fd.h"

namespace procguard::cli {

class GroupWitness {
 public:
  // All signals that matter must be blocked by now.
  static Result<GroupWitness> start();
  GroupWitness(GroupWitness&& other) noexcept;
  GroupWitness& operator=(GroupWitness&&) = delete;
  ~GroupWitness();  // ends and reaps it

  // What went to the group since it was last asked: bit N-1 for signal N. Nothing if it does not
  // answer: then a signal counts as ours alone, since one too many is better than one lost.
  std::uint64_t take();

  pid_t pid() const { return pid_; }

 private:
  GroupWitness(pid_t pid, sys::Fd line) : pid_(pid), line_(std::move(line)) {}

  pid_t pid_;
  sys::Fd line_;
};

}  // namespace procguard::cli
