// SPDX-License-Identifier: Apache-2.0
// The report of a run as one JSON object. Its keys carry their units and stay; procguard(1) lists
// them. Pure.
#pragma once

#include <string>

#include "cli/record.h"

namespace procguard::cli {

inline constexpr const char* kReportSchema = "procguard-run-1";

// Ends with a newline. Bytes that are no UTF-8 (names are chosen by whoever is guarded) are
// replaced.
std::string report_json(const RunOptions& options, const RunRecord& record, int exit_status);

}  // namespace procguard::cli
