// SPDX-License-Identifier: Apache-2.0
// The agent's way in: `procguard agent`. Returns its exit status.
#pragma once

#include <string>
#include <vector>

namespace procguard::agent {

// `args`: what follows the word "agent".
int agent_main(const std::vector<std::string>& args);

}  // namespace procguard::agent
