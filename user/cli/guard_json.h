// SPDX-License-Identifier: Apache-2.0
// Guards and the agent's status as JSON: fields are only ever added, units stand in the names.
// Pure.
#pragma once

#include <string>
#include <vector>

#include "proto/messages.h"

namespace procguard::cli {

// One object on one line, with a line end: {"schema":1,"guards":[...]}.
std::string list_json(const std::vector<proto::RowBody>& rows);
// {"schema":1,"guard":{...},"usage":{...},"threads":[...]}
std::string show_json(const proto::ShowBody& show, const std::vector<proto::ThreadBody>& threads);
std::string status_json(const proto::StatusBody& status);

}  // namespace procguard::cli
