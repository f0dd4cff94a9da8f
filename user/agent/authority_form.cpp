// SPDX-License-Identifier: Apache-2.0
// The fields of a request, whoever asks.
#include <algorithm>
#include <cstring>
#include <string_view>
#include <vector>

#include "agent/authority.h"
#include "core/guard.h"
#include "proto/labels.h"

namespace procguard::agent {
namespace {

using proto::AttachBody;

constexpr std::uint32_t kKnownFlags =
    proto::kHasFd | proto::kHeld | proto::kSession | proto::kFailsafe | proto::kMonitor;
constexpr std::uint32_t kMaxSignal = 64;

using Verdict = std::optional<Denial>;

Verdict invalid(std::string text) {
  return Denial{.status = proto::Status::kInvalid, .text = std::move(text)};
}

// Without a locale: the same everywhere.
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_printable(char c) {
  return c >= ' ' && c <= '~';
}

// Nothing if no NUL ends it.
template <std::size_t Size>
std::optional<std::string_view> text_of(const char (&field)[Size]) {
  const std::size_t length = ::strnlen(field, Size);
  return length == Size ? std::nullopt : std::optional(std::string_view(field, length));
}

Verdict check_target(const AttachBody& wanted) {
  if (wanted.scope < PG_SCOPE_THREAD || wanted.scope > PG_SCOPE_CGROUP) {
    return invalid("scope " + std::to_string(wanted.scope) +
                   " is unknown (expected 1 thread, 2 process, 3 tree or 4 cgroup)");
  }
  if ((wanted.flags & ~kKnownFlags) != 0) {
    return invalid("flags " + std::to_string(wanted.flags) + " are unknown to this agent in part " +
                   "(expected bits of " + std::to_string(kKnownFlags) + ")");
  }
  const bool has_fd = (wanted.flags & proto::kHasFd) != 0;
  if (wanted.scope == PG_SCOPE_CGROUP && !has_fd) {
    return invalid("scope cgroup without a descriptor (expected that of the cgroup's directory)");
  }
  if (has_fd && wanted.pid != 0) {
    return invalid("a target by descriptor and by pid (expected one of the two)");
  }
  if (!has_fd && (wanted.pid == 0 || wanted.pid > INT32_MAX)) {
    return invalid("pid " + std::to_string(wanted.pid) +
                   " is none (expected a descriptor, or a pid above 0)");
  }
  const bool thread = wanted.scope == PG_SCOPE_THREAD;
  if (thread && (wanted.tid == 0 || wanted.tid > INT32_MAX)) {
    return invalid("scope thread with tid " + std::to_string(wanted.tid) +
                   " (expected a thread of the target)");
  }
  if (!thread && wanted.tid != 0) {
    return invalid("a tid with scope " + std::string(core::scope_name(wanted.scope)) +
                   " (expected one with scope thread only)");
  }
  return std::nullopt;
}

// All times and sizes are added to others.
Verdict check_number(const std::string& name, std::uint64_t value) {
  if (value <= INT64_MAX) {
    return std::nullopt;
  }
  return invalid(name + " is " + std::to_string(value) + " (expected at most " +
                 std::to_string(INT64_MAX) + ")");
}

Verdict check_numbers(const AttachBody& wanted) {
  const bool limited = std::any_of(std::begin(wanted.limit), std::end(wanted.limit),
                                   [](std::uint64_t limit) { return limit != 0; });
  if (!limited) {
    return invalid("no limit (expected timeout, cpu, memory or memory_growth)");
  }
  for (std::uint32_t i = 0; i < PG_RESOURCES; ++i) {
    if (auto bad =
            check_number("the limit " + std::string(core::resource_name(i)), wanted.limit[i])) {
      return bad;
    }
  }
  if (auto bad = check_number("grace", wanted.grace_ns)) {
    return bad;
  }
  if (auto bad = check_number("step grace", wanted.step_grace_ns)) {
    return bad;
  }
  if (wanted.grace_ns != 0 && wanted.limit[PG_MEMORY] == 0 && wanted.limit[PG_MEMORY_GROWTH] == 0) {
    return invalid(
        "grace is how long a memory limit may be exceeded, and there is none (expected memory or "
        "memory_growth; the wait between steps is step grace)");
  }
  return std::nullopt;
}

Verdict check_ladder(const AttachBody& wanted) {
  if (wanted.steps < 1 || wanted.steps > PG_STEPS) {
    return invalid("a ladder of " + std::to_string(wanted.steps) + " steps (expected 1 to " +
                   std::to_string(PG_STEPS) + ")");
  }
  for (std::uint32_t i = 0; i < wanted.steps; ++i) {
    const pg_step& step = wanted.ladder[i];
    const std::string name = "step " + std::to_string(i);
    if (step.action == PG_ACTION_EXCEPTION) {
      return invalid(name +
                     " is an exception, which only a program's own guards can raise (expected a "
                     "signal)");
    }
    if (step.action != PG_ACTION_SIGNAL) {
      return invalid(name + " has the unknown action " + std::to_string(step.action) +
                     " (expected " + std::to_string(PG_ACTION_SIGNAL) + ", a signal)");
    }
    if (step.signal < 1 || step.signal > kMaxSignal) {
      return invalid(name + " has signal " + std::to_string(step.signal) + " (expected 1 to " +
                     std::to_string(kMaxSignal) + ")");
    }
    if (auto bad = check_number(name + "'s wait", step.wait_ns)) {
      return bad;
    }
  }
  return std::nullopt;
}

bool like_an_id(std::string_view name) {
  if (name.starts_with('g')) {
    name.remove_prefix(1);
  }
  return !name.empty() && std::all_of(name.begin(), name.end(), is_digit);
}

Verdict check_name(const AttachBody& wanted) {
  const auto name = text_of(wanted.name);
  if (!name) {
    return invalid("the name has no end (expected at most " + std::to_string(PG_NAME_LEN - 1) +
                   " bytes and a NUL)");
  }
  if (!std::all_of(name->begin(), name->end(),
                   [](char c) { return is_printable(c) && c != ' '; })) {
    return invalid("a byte of the name is not permitted (expected printable ASCII without blanks)");
  }
  if (like_an_id(*name)) {
    return invalid("the name '" + std::string(*name) +
                   "' looks like a guard's id (expected a name that is not a number, nor g and a "
                   "number)");
  }
  return std::nullopt;
}

Verdict check_labels(const AttachBody& wanted) {
  const auto text = text_of(wanted.labels);
  if (!text) {
    return invalid("the labels have no end (expected at most " + std::to_string(PG_LABELS_LEN - 1) +
                   " bytes and a NUL)");
  }
  std::vector<std::string_view> keys;
  for (std::string_view rest = *text; !rest.empty();) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    const std::string name = "label " + std::to_string(keys.size() + 1);
    const std::string_view key = line.substr(0, line.find('='));
    if (key.size() == line.size() || !proto::is_label_key(key)) {
      return invalid(name + ": expected K=V, with K of 1 to " +
                     std::to_string(proto::kMaxLabelKey) + " letters, digits and ._-/");
    }
    if (!proto::is_label_value(line.substr(key.size() + 1))) {
      return invalid(name + ", " + std::string(key) +
                     ": a byte is not permitted (expected text on one line)");
    }
    if (std::find(keys.begin(), keys.end(), key) != keys.end()) {
      return invalid(name + ", " + std::string(key) + ": is there twice (expected once)");
    }
    keys.push_back(key);
  }
  return std::nullopt;
}

}  // namespace

Verdict check_form(const AttachBody& wanted) {
  for (const auto check : {check_target, check_numbers, check_ladder, check_name, check_labels}) {
    if (auto bad = check(wanted)) {
      return bad;
    }
  }
  return std::nullopt;
}

}  // namespace procguard::agent
