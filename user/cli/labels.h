// SPDX-License-Identifier: Apache-2.0
// Labels: what a guard is called by beside its name. The same for run and attach. Pure.
#pragma once

#include <string>
#include <vector>

#include "cli/options.h"

namespace procguard::cli {

// "K=V" words as the lines that a guard carries.
void check_labels(const std::vector<std::string>& given, Checks& checks, std::string& labels);

}  // namespace procguard::cli
