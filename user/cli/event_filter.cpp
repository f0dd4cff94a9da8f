// SPDX-License-Identifier: Apache-2.0
#include "cli/event_filter.h"

#include <algorithm>
#include <array>
#include <utility>

#include "cli/guard_words.h"
#include "core/guard.h"
#include "core/signals.h"
#include "proto/codec.h"
#include "proto/event_kinds.h"
#include "sys/procfs_parse.h"

namespace procguard::cli {
namespace {

std::string quoted(std::string_view text) {
  return "'" + sys::printable(text) + "'";
}

// The names of the numbers `first` to `last`; an error says which there are.
Result<std::string> one_of(const char* what, std::string_view text,
                           const char* (*name)(std::uint32_t), std::uint32_t first,
                           std::uint32_t last) {
  std::string expected;
  for (std::uint32_t number = first; number <= last; ++number) {
    if (text == name(number)) {
      return std::string(text);
    }
    expected += std::string(expected.empty() ? "" : ", ") + name(number);
  }
  return Error(std::string("unknown ") + what + " " + quoted(text) + " (expected " + expected +
               ")");
}

Result<std::string> parse_kind(std::string_view text) {
  std::string expected;
  for (const std::string_view kind : proto::all_event_kinds()) {
    if (text == kind) {
      return std::string(text);
    }
    expected += (expected.empty() ? "" : ", ") + std::string(kind);
  }
  return Error("unknown event " + quoted(text) + " (expected " + expected + ")");
}

}  // namespace

Result<std::string> EventFilter::parse_value(Key key, std::string_view text) {
  switch (key) {
    case Key::kEvent:
      return parse_kind(text);
    case Key::kGuard: {
      const auto guard = parse_guard(text);
      if (!guard) {
        return guard.error();
      }
      if (guard->id == 0) {
        return Error("guard " + quoted(text) +
                     ": expected a number as g12 (a name is name=" + sys::printable(text) + ")");
      }
      return std::to_string(guard->id);
    }
    case Key::kResource:
      return one_of("resource", text, core::resource_name, PG_TIMEOUT, PG_MEMORY_GROWTH);
    case Key::kScope:
      return one_of("scope", text, core::scope_name, PG_SCOPE_THREAD, PG_SCOPE_CGROUP);
    case Key::kResult:
      return one_of("result", text, core::result_name, PG_RESULT_SENT, PG_RESULT_UNKNOWN);
    case Key::kSignal: {
      const auto signal = core::parse_signal(text);
      if (!signal || *signal == 0) {
        return Error("unknown signal " + quoted(text) + " (expected a name or number)");
      }
      return std::to_string(*signal);
    }
    case Key::kName:
      break;
  }
  return std::string(text);
}

std::string EventFilter::value_of(Key key, const proto::EventBody& body, std::string_view kind) {
  const pg_event& event = body.event;
  const bool step = event.kind == PG_EVENT_STEP;
  switch (key) {
    case Key::kEvent:
      return std::string(kind);
    case Key::kGuard:
      return std::to_string(event.guard);
    case Key::kName:
      return proto::get_text(event.name);
    case Key::kResource:
      return core::resource_name(event.resource);
    case Key::kScope:
      return core::scope_name(body.scope);
    case Key::kResult:
      return step ? core::result_name(event.result) : "";
    case Key::kSignal:
      break;
  }
  return step && event.action == PG_ACTION_SIGNAL ? std::to_string(event.signal) : "";
}

Result<EventFilter::Term> EventFilter::parse_term(std::string_view text) {
  static constexpr std::array<std::pair<std::string_view, Key>, 7> kKeys = {
      {{"event", Key::kEvent},
       {"guard", Key::kGuard},
       {"name", Key::kName},
       {"resource", Key::kResource},
       {"scope", Key::kScope},
       {"result", Key::kResult},
       {"signal", Key::kSignal}}};
  const std::size_t equals = text.find('=');
  const std::string_view word = text.substr(0, equals);
  const auto* const found =
      std::find_if(kKeys.begin(), kKeys.end(), [&](const auto& key) { return key.first == word; });
  if (equals == std::string_view::npos || found == kKeys.end()) {
    return Error("unknown filter " + quoted(text) +
                 " (expected key=value; keys are event, guard, name, resource, scope, result, "
                 "signal)");
  }
  auto value = parse_value(found->second, text.substr(equals + 1));
  if (!value) {
    return value.error();
  }
  return Term{.key = found->second, .value = std::move(value).value()};
}

Result<EventFilter> EventFilter::parse(std::string_view text) {
  EventFilter filter;
  for (;;) {
    const std::size_t comma = text.find(',');
    auto term = parse_term(text.substr(0, comma));
    if (!term) {
      return term.error();
    }
    filter.terms_.push_back(std::move(term).value());
    if (comma == std::string_view::npos) {
      return filter;
    }
    text.remove_prefix(comma + 1);
  }
}

bool EventFilter::wants(const proto::EventBody& event, std::string_view kind) const {
  return std::all_of(terms_.begin(), terms_.end(), [&](const Term& wanted) {
    const std::string value = value_of(wanted.key, event, kind);
    return std::any_of(terms_.begin(), terms_.end(), [&](const Term& term) {
      return term.key == wanted.key && term.value == value;
    });
  });
}

}  // namespace procguard::cli
