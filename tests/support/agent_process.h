// SPDX-License-Identifier: Apache-2.0
// A real agent as a process of a test, with a socket and pins of its own.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tests/support/subprocess.h"

namespace procguard::test {

// Where a private agent lives.
struct AgentPlace {
  AgentPlace();
  std::string directory;  // a temporary one
  std::string socket;
  std::string pins;
};

class AgentProcess {
 public:
  explicit AgentProcess(const AgentPlace& place, std::vector<std::string> more = {});
  // Waits until it listens; false: it ended, or the deadline passed.
  bool ready();
  pid_t pid() const { return process_.pid(); }
  void kill() {
    process_.send(9);
    process_.wait();
  }
  int stop() {
    process_.send(15);
    return process_.wait().status();
  }
  Subprocess& process() { return process_; }

 private:
  const AgentPlace& place_;
  Subprocess process_;
};

}  // namespace procguard::test
