// SPDX-License-Identifier: Apache-2.0
// `procguard run`: a command under a guard. See procguard(1).
#pragma once

#include <string>
#include <vector>

namespace procguard::cli {

// `args`: what follows the word "run". Returns the exit status.
int run_main(const std::vector<std::string>& args);

}  // namespace procguard::cli
