// SPDX-License-Identifier: Apache-2.0
// Grower: a process that grows its RSS at full speed until it is killed, and then can still be
// looked at: a second process (the keeper), which does nothing, has the same address space.
#pragma once

#include <sys/types.h>

#include <memory>

#include "core/result.h"
#include "sys/fd.h"
#include "tests/bench/resident.h"

namespace procguard::bench {

enum class Pages { kAnon, kHuge, kShmem, kFile };

class Grower {
 public:
  // Waits for go() with nothing touched yet.
  static Result<std::unique_ptr<Grower>> start(Pages pages, int threads);
  ~Grower();
  Grower(const Grower&) = delete;
  Grower& operator=(const Grower&) = delete;

  pid_t pid() const { return pid_; }
  int pidfd() const { return pidfd_.get(); }
  Result<Resident> resident() const { return bench::resident(keeper_); }

  Result<void> go();
  // Waits until it is dead. Error: it grew to its end and was not killed.
  Result<void> wait_for_death();

 private:
  Grower() = default;

  sys::Fd go_;
  sys::Fd pidfd_;
  pid_t pid_ = -1;     // 0 and below: reaped
  pid_t keeper_ = -1;  // our child too
};

}  // namespace procguard::bench
