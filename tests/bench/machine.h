// SPDX-License-Identifier: Apache-2.0
// The machine that the figures are of.
#pragma once

#include <string>

namespace procguard::bench {

struct Machine {
  std::string cpu;
  int cpus = 0;
  std::string kernel;
  std::string at;             // UTC
  std::string loop_priority;  // what the thread that sends signals runs at
  double load_before = 0;     // one minute's average when the run began
  int runnable_before = 0;    // others that wanted a CPU then

  // Something else ran too: the figures are provisional.
  bool busy() const { return runnable_before > 1 || load_before > 0.5 * cpus; }
};

Machine describe_machine();

// How much of all CPUs went to others since it was made: neither idle nor ours and our children's
// that were waited for. 0 to 1.
class Others {
 public:
  Others();
  double share() const;

 private:
  struct Seconds {
    double all = 0;
    double busy = 0;
    double ours = 0;
  };
  static Seconds look();

  Seconds at_start_;
};

// More than this makes figures provisional.
inline constexpr double kQuiet = 0.05;

}  // namespace procguard::bench
