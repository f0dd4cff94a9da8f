// SPDX-License-Identifier: Apache-2.0
// What the state of a guard means to people: how much of each limit is used, how long until the
// next step. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/clock.h"
#include "proto/messages.h"

namespace procguard::cli {

struct LimitView {
  std::uint32_t resource = 0;
  std::uint64_t limit = 0;       // ns or bytes
  std::uint64_t used = 0;        // of it: from the base on
  std::optional<core::Ns> left;  // until the next step is due; nothing: not known, or none will be
  const pg_limit* state = nullptr;  // in the row

  bool memory() const { return resource == PG_MEMORY || resource == PG_MEMORY_GROWTH; }
};

// One for each limit that the guard has. They point into `row`.
std::vector<LimitView> limit_views(const proto::RowBody& row);

// When it is looked at: a guard that is paused or has ended stands still.
core::Ns view_time(const proto::RowBody& row);

// "1/3": steps taken; "over": its grace runs; "3/3 done"; or why there will be none: "held",
// "paused", "released", "ended". At most 8 characters.
std::string ladder_text(const pg_guard& guard, const pg_limit& limit);

std::string guard_number(std::uint64_t id);       // "g12"
std::string guard_title(const pg_guard& guard);   // the name, escaped
const char* phase_text(const pg_guard& guard);    // "armed", "held", "paused", "released", "ended"
const char* mode_text(std::uint32_t mode);        // "enforce", "monitor"
const char* origin_text(std::uint32_t origin);    // "local", "attach", "session"
std::string format_steps(const pg_guard& guard);  // "INT:5s,TERM,KILL"
std::string format_amount(const LimitView& limit, std::uint64_t value);

// At most 7 characters, cut off below: "766ms", "12.3s", "2m5s", "23h59m", "365d".
std::string format_short(core::Ns ns);

}  // namespace procguard::cli
