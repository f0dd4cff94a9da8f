// SPDX-License-Identifier: Apache-2.0
// The options that say what a guard allows and what it does then: the same for run and attach. What
// they are checked into is a GuardSpec. Pure.
#pragma once

#include <string>

#include "cli/options.h"
#include "core/guard.h"

namespace procguard::cli {

struct LimitOptions {
  Text timeout, cpu, memory, growth;

  // `begin`: since when they count, as in "COMMAND began".
  void add_to(Options& options, const std::string& begin);
  // At least one of them is needed.
  void check(Checks& checks, core::GuardSpec& spec) const;
};

struct LadderOptions {
  Text grace, step_grace, interrupt, escalate, signal, kill_after;
  bool kill = false;

  void add_to(Options& options);
  // After the limits: a grace without a memory limit is an error.
  void check(Checks& checks, core::GuardSpec& spec) const;

 private:
  void check_waits(Checks& checks, core::GuardSpec& spec) const;
  void check_ladder(Checks& checks, core::GuardSpec& spec) const;
  void own_signal(Checks& checks, core::GuardSpec& spec) const;
};

}  // namespace procguard::cli
