// SPDX-License-Identifier: Apache-2.0
// The service manager and the journal, by libsystemd, which is loaded when it is first needed: a
// binary that is started as often as `timeout` is must not link it. Any thread.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/result.h"

namespace procguard::sys {

// sd_notify(3): "READY=1", "STATUS=...", "WATCHDOG=1". Nothing where no service manager listens.
void notify_manager(const std::string& state);
// WATCHDOG_USEC as nanoseconds; 0: it is not asked for.
std::uint64_t watchdog_ns();
// Is libsystemd there?
Result<void> journal_available();
// sd_journal_sendv(3): NAME=value fields, MESSAGE and PRIORITY among them.
Result<void> journal_send(const std::vector<std::pair<std::string, std::string>>& fields);

}  // namespace procguard::sys
