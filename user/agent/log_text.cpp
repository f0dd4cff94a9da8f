// SPDX-License-Identifier: Apache-2.0
#include "agent/log_text.h"

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
#include "proto/event_json.h"
#include "proto/event_kinds.h"
#include "sys/procfs_parse.h"

namespace procguard::agent {
namespace {

// syslog(3)'s numbers and journalctl's words.
struct SeverityName {
  const char* word;
  const char* priority;
};

SeverityName name_of(Severity severity) {
  switch (severity) {
    case Severity::kError:
      return {"error", "3"};
    case Severity::kWarning:
      return {"warning", "4"};
    case Severity::kNotice:
      return {"notice", "5"};
    case Severity::kInfo:
      break;
  }
  return {"info", "6"};
}

// "2026-01-05T10:11:12.345Z", with so many of the nine decimals.
std::string utc_time(std::uint64_t real_ns, int decimals) {
  const auto seconds = static_cast<std::time_t>(real_ns / core::kSecond);
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  std::array<char, 64> text{};
  const std::size_t length = std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S.", &parts);
  std::array<char, 16> fraction{};
  std::snprintf(fraction.data(), fraction.size(), "%09u",
                static_cast<unsigned>(real_ns % core::kSecond));
  return std::string(text.data(), length) +
         std::string(fraction.data(), static_cast<std::size_t>(decimals)) + "Z";
}

std::string line(std::uint64_t real_ns, Severity severity, std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return utc_time(real_ns, 3) + " " + name_of(severity).word + " " + text;
}

JournalFields common_fields(Severity severity, std::string message) {
  return {{"MESSAGE", std::move(message)},
          {"PRIORITY", name_of(severity).priority},
          {"SYSLOG_IDENTIFIER", "procguard"}};
}

void add_limit(const pg_event& event, JournalFields& fields) {
  if (event.resource >= PG_RESOURCES) {
    return;  // it is about the whole guard
  }
  fields.emplace_back("PROCGUARD_RESOURCE", core::resource_name(event.resource));
  fields.emplace_back("PROCGUARD_LIMIT", std::to_string(event.limit));
  fields.emplace_back("PROCGUARD_OBSERVED", std::to_string(event.observed));
}

void add_step(const proto::EventBody& body, JournalFields& fields) {
  const pg_event& event = body.event;
  fields.emplace_back("PROCGUARD_STEP", std::to_string(event.step));
  if (event.action == PG_ACTION_SIGNAL) {
    fields.emplace_back("PROCGUARD_SIGNAL", core::signal_full_name(static_cast<int>(event.signal)));
  }
  fields.emplace_back("PROCGUARD_BY", core::by_name(event.by));
  fields.emplace_back("PROCGUARD_RESULT", core::result_name(event.result));
  fields.emplace_back("PROCGUARD_REACHED", std::to_string(body.reached));
  fields.emplace_back("PROCGUARD_REFUSED", std::to_string(body.refused));
}

}  // namespace

Severity severity_of(const pg_event& event) {
  switch (event.kind) {
    case PG_EVENT_STEP:
      break;
    case PG_EVENT_DEGRADED:
    case PG_EVENT_AGENT_GAP:
    case PG_EVENT_LOST:
      return Severity::kWarning;
    case PG_EVENT_OVER:
      return Severity::kNotice;
    default:
      return Severity::kInfo;
  }
  switch (event.result) {
    case PG_RESULT_FAILED:
    case PG_RESULT_REFUSED:
    case PG_RESULT_UNKNOWN:
      return Severity::kError;
    default:
      return Severity::kWarning;
  }
}

std::string text_line(const proto::EventBody& event) {
  return line(event.real_ns, severity_of(event.event), core::event_text(event.event));
}

std::string text_line(const Note& note) {
  return line(note.real_ns, note.severity, note.text);
}

std::string json_line(const Note& note) {
  const nlohmann::ordered_json object = {{"schema", proto::kEventSchema},
                                         {"event", "agent.note"},
                                         {"time", utc_time(note.real_ns, 9)},
                                         {"severity", name_of(note.severity).word},
                                         {"text", note.text}};
  // A text that is not UTF-8 is no reason to throw.
  return object.dump(-1, ' ', /*ensure_ascii=*/true,
                     nlohmann::ordered_json::error_handler_t::replace);
}

JournalFields journal_fields(const proto::EventBody& body) {
  const pg_event& event = body.event;
  JournalFields fields = common_fields(severity_of(event), core::event_text(event));
  for (const std::string_view kind : proto::event_kinds(body)) {
    fields.emplace_back("PROCGUARD_EVENT", kind);
  }
  fields.emplace_back("PROCGUARD_SEQ", std::to_string(body.seq));
  if (event.guard != 0) {
    fields.emplace_back("PROCGUARD_GUARD", "g" + std::to_string(event.guard));
    fields.emplace_back("PROCGUARD_NAME", sys::printable(proto::get_text(event.name)));
    fields.emplace_back("PROCGUARD_SCOPE", core::scope_name(body.scope));
    fields.emplace_back("PROCGUARD_OWNER_UID", std::to_string(body.owner_uid));
    add_limit(event, fields);
  }
  if (event.pid != 0) {
    fields.emplace_back("PROCGUARD_PID", std::to_string(event.pid));
  }
  if (event.kind == PG_EVENT_STEP) {
    add_step(body, fields);
  }
  return fields;
}

JournalFields journal_fields(const Note& note) {
  JournalFields fields = common_fields(note.severity, note.text);
  fields.emplace_back("PROCGUARD_EVENT", "agent.note");
  return fields;
}

}  // namespace procguard::agent
