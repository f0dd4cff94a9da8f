// SPDX-License-Identifier: Apache-2.0
// Victim: a process that works at full speed until a signal reaches it, and says when it did. It
// lives through its rounds; fresh pages are given back between them.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <csignal>
#include <cstdint>
#include <memory>

#include "core/clock.h"
#include "core/result.h"
#include "sys/fd.h"

namespace procguard::test {
class Child;
}

namespace procguard::bench {

inline constexpr int kVictimSignal = SIGUSR1;

enum class Work {
  kTouch,  // touches fresh 4 KiB pages
  kSpin,   // uses the CPU
};

class Victim {
 public:
  static Result<std::unique_ptr<Victim>> start(Work work);
  ~Victim();
  Victim(const Victim&) = delete;
  Victim& operator=(const Victim&) = delete;

  pid_t pid() const;
  int pidfd() const { return pidfd_.get(); }

  // Begins a round.
  Result<void> go();
  // Waits until the victim has got the signal and has put its pages back; when it got it
  // (CLOCK_MONOTONIC). Error: no signal came before it ran out of work.
  Result<core::Ns> signalled_at();

 private:
  struct Shared;

  Victim() = default;
  Result<void> wait();

  Shared* shared_ = nullptr;
  sys::Fd go_;
  sys::Fd done_;
  sys::Fd pidfd_;
  std::unique_ptr<test::Child> child_;
};

}  // namespace procguard::bench
