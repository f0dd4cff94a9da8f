// SPDX-License-Identifier: Apache-2.0
// The names that events have in JSON and filters. Any thread.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "proto/messages.h"

namespace procguard::proto {

// What an event is called, in the order of event_json(): a step 0 is "guard.tripped" and
// "step.sent" (or "step.failed").
std::vector<std::string_view> event_kinds(const EventBody& event);

// All the names there are.
std::span<const std::string_view> all_event_kinds();

}  // namespace procguard::proto
