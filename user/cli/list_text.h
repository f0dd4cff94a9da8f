// SPDX-License-Identifier: Apache-2.0
// What `procguard list` prints: a line for each limit of each guard. Pure.
#pragma once

#include <string>
#include <vector>

#include "proto/messages.h"

namespace procguard::cli {

// Not wider than 80 columns.
std::string list_table(const std::vector<proto::RowBody>& rows);
// All that a row has.
std::string list_wide(const std::vector<proto::RowBody>& rows);

}  // namespace procguard::cli
