// SPDX-License-Identifier: Apache-2.0
#include "proto/event_json.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>

#include "core/clock.h"
#include "core/event_text.h"
#include "core/guard.h"
#include "core/signals.h"
#include "proto/codec.h"
#include "proto/event_kinds.h"
#include "sys/procfs_parse.h"

namespace procguard::proto {
namespace {

using nlohmann::ordered_json;

constexpr std::array<std::string_view, 14> kKinds = {
    "guard.armed",   "guard.over",     "guard.back_under", "guard.tripped", "step.sent",
    "step.failed",   "target.exited",  "guard.released",   "guard.changed", "guard.paused",
    "guard.resumed", "watch.degraded", "agent.gap",        "events.lost"};

bool failed(std::uint32_t result) {
  switch (result) {
    case PG_RESULT_SENT:
    case PG_RESULT_IGNORED:
    case PG_RESULT_PENDING:
    case PG_RESULT_MERGED:
    case PG_RESULT_DRY_RUN:
      return false;
    default:
      return true;
  }
}

std::string formatted(std::uint64_t real_ns, const char* format, bool utc) {
  const auto seconds = static_cast<std::time_t>(real_ns / core::kSecond);
  std::tm parts{};
  utc ? ::gmtime_r(&seconds, &parts) : ::localtime_r(&seconds, &parts);
  std::array<char, 64> text{};
  return {text.data(), std::strftime(text.data(), text.size(), format, &parts)};
}

// "2026-01-05T10:11:12.345678901Z"
std::string utc_time(std::uint64_t real_ns) {
  std::array<char, 16> decimals{};
  std::snprintf(decimals.data(), decimals.size(), ".%09uZ",
                static_cast<unsigned>(real_ns % core::kSecond));
  return formatted(real_ns, "%Y-%m-%dT%H:%M:%S", true) + decimals.data();
}

ordered_json guard_json(const EventBody& body) {
  const pg_event& event = body.event;
  return {{"id", "g" + std::to_string(event.guard)},
          {"name", sys::printable(get_text(event.name))},
          {"scope", core::scope_name(body.scope)},
          {"mode", body.mode == PG_MODE_MONITOR ? "monitor" : "enforce"},
          {"owner_uid", body.owner_uid}};
}

ordered_json trigger_json(const EventBody& body) {
  const pg_event& event = body.event;
  const bool memory = event.resource == PG_MEMORY || event.resource == PG_MEMORY_GROWTH;
  ordered_json trigger = {{"resource", core::resource_name(event.resource)},
                          {"limit", event.limit},
                          {"observed", event.observed},
                          {"unit", memory ? "bytes" : "ns"}};
  if (body.over_since_ns != 0) {
    trigger["over_since_ns"] = body.over_since_ns;
  }
  return trigger;
}

template <std::size_t Size>
ordered_json pids_json(const std::uint32_t (&pids)[Size], std::uint32_t count) {
  return std::vector<std::uint32_t>(pids, pids + std::min<std::size_t>(count, Size));
}

ordered_json step_json(const EventBody& body) {
  const pg_event& event = body.event;
  const bool signal = event.action == PG_ACTION_SIGNAL;
  return {{"index", event.step},
          {"action", signal ? "signal" : "exception"},
          {"signal", signal ? ordered_json(core::signal_full_name(static_cast<int>(event.signal)))
                            : ordered_json(nullptr)},
          {"due_ns", event.due_ns},
          {"late_ns", core::saturating_sub(event.at_ns, event.due_ns)},
          {"by", core::by_name(event.by)},
          {"result", core::result_name(event.result)},
          {"errno", event.error},
          {"reached", body.reached},
          {"reached_pids", pids_json(body.reached_pids, body.reached)},
          {"refused", body.refused},
          {"refused_pids", pids_json(body.refused_pids, body.refused)}};
}

ordered_json common_json(const EventBody& body, std::string_view kind) {
  const pg_event& event = body.event;
  ordered_json object = {{"schema", kEventSchema},
                         {"event", kind},
                         {"time", utc_time(body.real_ns)},
                         {"mono_ns", event.at_ns},
                         {"seq", body.seq}};
  if (event.guard != 0) {
    object["guard"] = guard_json(body);
    object["target"] = {{"pid", event.pid == 0 ? ordered_json(nullptr) : ordered_json(event.pid)}};
  }
  return object;
}

}  // namespace

std::span<const std::string_view> all_event_kinds() {
  return kKinds;
}

std::vector<std::string_view> event_kinds(const EventBody& body) {
  const pg_event& event = body.event;
  switch (event.kind) {
    case PG_EVENT_ARMED:
      return {"guard.armed"};
    case PG_EVENT_OVER:
      return {"guard.over"};
    case PG_EVENT_BACK_UNDER:
      return {"guard.back_under"};
    case PG_EVENT_STEP: {
      const std::string_view step = failed(event.result) ? "step.failed" : "step.sent";
      return event.step == 0 ? std::vector<std::string_view>{"guard.tripped", step}
                             : std::vector<std::string_view>{step};
    }
    case PG_EVENT_RELEASED:
      return {"guard.released"};
    case PG_EVENT_TARGET_EXITED:
      return {"target.exited"};
    case PG_EVENT_DEGRADED:
      return {"watch.degraded"};
    case PG_EVENT_CHANGED:
      return {"guard.changed"};
    case PG_EVENT_PAUSED:
      return {"guard.paused"};
    case PG_EVENT_RESUMED:
      return {"guard.resumed"};
    case PG_EVENT_AGENT_GAP:
      return {"agent.gap"};
    case PG_EVENT_LOST:
      return {"events.lost"};
    default:
      return {"unknown"};
  }
}

std::vector<std::string> event_json(const EventBody& body) {
  const pg_event& event = body.event;
  std::vector<std::string> objects;
  for (const std::string_view kind : event_kinds(body)) {
    ordered_json object = common_json(body, kind);
    if (event.guard != 0 && event.resource < PG_RESOURCES) {
      object["trigger"] = trigger_json(body);
    }
    if (event.kind == PG_EVENT_STEP) {
      object["step"] = step_json(body);
    } else if (event.kind == PG_EVENT_AGENT_GAP) {
      object["from_ns"] = event.due_ns;
      object["to_ns"] = event.at_ns;
    } else if (event.kind == PG_EVENT_LOST) {
      object["count"] = event.observed;
    }
    objects.push_back(object.dump());
  }
  return objects;
}

std::string event_line(const EventBody& body) {
  std::array<char, 8> milliseconds{};
  std::snprintf(milliseconds.data(), milliseconds.size(), ".%03u ",
                static_cast<unsigned>(body.real_ns % core::kSecond / core::kMillisecond));
  return formatted(body.real_ns, "%Y-%m-%d %H:%M:%S", false) + milliseconds.data() +
         core::event_text(body.event);
}

}  // namespace procguard::proto
