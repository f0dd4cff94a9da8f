// SPDX-License-Identifier: Apache-2.0
#include "agent/agent_main.h"

#include <cstdio>

namespace procguard::agent {

// A place holder until there is an agent.
[[gnu::weak]] int agent_main(const std::vector<std::string>& /*args*/) {
  std::fputs("procguard: agent: not built in\n", stderr);
  return 5;
}

}  // namespace procguard::agent
