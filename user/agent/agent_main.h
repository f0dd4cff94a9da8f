// SPDX-License-Identifier: Apache-2.0
// `procguard agent`: the daemon in the foreground.
#pragma once

#include <string>
#include <vector>

namespace procguard::agent {

// `args`: what follows the word "agent". The exit status: 0 stopped as told; 1 it failed; 2 usage,
// or another agent is running; 4 not permitted; 5 the kernel, or the pins of another version.
int agent_main(const std::vector<std::string>& args);

}  // namespace procguard::agent
