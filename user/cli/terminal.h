// SPDX-License-Identifier: Apache-2.0
// The terminal on standard input and who is in its foreground: as a shell does it for a job.
// SIGTTOU must be blocked in the calling thread. Errors are not reported: a terminal that has hung
// up is nobody's any more.
#pragma once

#include <sys/types.h>

namespace procguard::cli {

class Terminal {
 public:
  Terminal();

  // Standard input is a terminal and this process' group was in its foreground at the start: the
  // command gets a process group of its own.
  bool leads() const { return leads_; }

  void given() { given_ = true; }  // by Child::spawn
  // To the command's group, if we are in the foreground now (the user may have said `bg`).
  void give(pid_t group);
  // Back to our group, if it was given and not taken from us.
  void take_back();

 private:
  pid_t own_group_;
  bool leads_;
  bool given_ = false;
};

}  // namespace procguard::cli
