// SPDX-License-Identifier: Apache-2.0
// An event as one JSON object: the same in the log, from `procguard events` and in reports. Fields
// are only ever added; numbers are in base units, which stand in the names. Names are escaped. Any
// thread.
#pragma once

#include <string>
#include <vector>

#include "proto/messages.h"

namespace procguard::proto {

inline constexpr int kEventSchema = 1;

// Several objects for one record where it is several events: a step 0 is "guard.tripped" and
// "step.sent" (or "step.failed"). Without line ends.
std::vector<std::string> event_json(const EventBody& event);

// One line for people: time, guard, what.
std::string event_line(const EventBody& event);

}  // namespace procguard::proto
