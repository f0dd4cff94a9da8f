// SPDX-License-Identifier: Apache-2.0
#include "core/event_text.h"

#include <cstring>

#include "core/clock.h"
#include "core/guard.h"
#include "core/signals.h"
#include "core/units.h"

namespace procguard::core {
namespace {

// Lateness below this is how timers are, not news.
constexpr Ns kWorthSaying = kMillisecond;

std::string guard_name(const pg_event& event) {
  std::string text = "guard g" + std::to_string(event.guard);
  const std::size_t length = ::strnlen(event.name, sizeof(event.name));
  if (length == 0) {
    return text;
  }
  text += " '";
  for (std::size_t i = 0; i < length; ++i) {
    const char c = event.name[i];
    text += c >= ' ' && c <= '~' ? c : '?';
  }
  return text + "'";
}

std::string amount(const pg_event& event, std::uint64_t value) {
  const bool memory = event.resource == PG_MEMORY || event.resource == PG_MEMORY_GROWTH;
  return memory ? format_size(value) : format_duration(value);
}

std::string limit_text(const pg_event& event) {
  const std::string limit = amount(event, event.limit);
  if (event.resource == PG_TIMEOUT) {
    return "timeout " + limit;
  }
  return std::string(resource_name(event.resource)) + " limit " + limit;
}

std::string over_text(const pg_event& event) {
  std::string text = " over " + limit_text(event) + ": " + amount(event, event.observed);
  const Ns left = saturating_sub(event.due_ns, event.at_ns);
  return text + ", step 0 due " + (left == 0 ? "now" : "in " + format_duration(left));
}

std::string step_text(const pg_event& event) {
  std::string text = " step " + std::to_string(event.step) + ": ";
  text += event.action == PG_ACTION_SIGNAL ? signal_full_name(static_cast<int>(event.signal))
                                           : std::string("exception");
  text += event.by == PG_BY_KERNEL ? " by the kernel, " : ", ";
  text += result_name(event.result);
  if (event.error != 0) {
    text += std::string(" (") + std::strerror(static_cast<int>(event.error)) + ")";
  }
  text += "; " + limit_text(event) + ", observed " + amount(event, event.observed);
  const Ns late = saturating_sub(event.at_ns, event.due_ns);
  if (late >= kWorthSaying) {
    text += ", late by " + format_duration(late);
  }
  return text;
}

std::string what(const pg_event& event) {
  switch (event.kind) {
    case PG_EVENT_ARMED:
      return " armed" + (event.pid == 0 ? "" : " on pid " + std::to_string(event.pid)) + ": " +
             limit_text(event);
    case PG_EVENT_OVER:
      return over_text(event);
    case PG_EVENT_BACK_UNDER:
      return " back under " + limit_text(event) + ": " + amount(event, event.observed);
    case PG_EVENT_STEP:
      return step_text(event);
    case PG_EVENT_RELEASED:
      return " released";
    case PG_EVENT_TARGET_EXITED:
      return " target exited";
    case PG_EVENT_DEGRADED:
      return " degraded: members or levels may be missing";
    case PG_EVENT_CHANGED:
      return " changed: " + limit_text(event);
    case PG_EVENT_PAUSED:
      return " paused";
    case PG_EVENT_RESUMED:
      return " resumed";
    case PG_EVENT_AGENT_GAP:
      return "no agent ran for " + format_duration(saturating_sub(event.at_ns, event.due_ns));
    case PG_EVENT_LOST:
      return std::to_string(event.observed) + " events lost";
    default:
      return " event " + std::to_string(event.kind);
  }
}

}  // namespace

std::string event_text(const pg_event& event) {
  std::string text = (event.guard == 0 ? std::string() : guard_name(event)) + what(event);
  if (text.size() > kEventTextMax) {
    text.resize(kEventTextMax);
  }
  return text;
}

}  // namespace procguard::core
