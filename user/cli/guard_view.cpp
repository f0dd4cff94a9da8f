// SPDX-License-Identifier: Apache-2.0
#include "cli/guard_view.h"

#include <algorithm>

#include "core/guard.h"
#include "core/ladder.h"
#include "core/units.h"
#include "proto/codec.h"
#include "sys/procfs_parse.h"

namespace procguard::cli {
namespace {

constexpr core::Ns kMinute = 60 * core::kSecond;
constexpr core::Ns kHour = 60 * kMinute;
constexpr core::Ns kDay = 24 * kHour;
constexpr core::Ns kForever = INT64_MAX;  // what "inf" and longer come to

bool paused(const pg_guard& guard) {
  return (guard.flags & PG_GUARD_PAUSED) != 0 || guard.paused_ns != 0;
}

std::uint64_t used_of(const proto::RowBody& row, std::uint32_t resource) {
  const pg_guard& guard = row.guard;
  const std::uint64_t base = guard.limit[resource].base;
  switch (resource) {
    case PG_TIMEOUT:
      return base == 0 ? 0 : core::saturating_sub(view_time(row), base);
    case PG_CPU:
      return core::saturating_sub(guard.paused_ns != 0 ? guard.paused_cpu_ns : row.cpu_ns, base);
    case PG_MEMORY_GROWTH:
      return core::saturating_sub(row.memory_bytes, base);
    default:
      return row.memory_bytes;
  }
}

std::optional<core::Ns> left_of(const proto::RowBody& row, std::uint32_t resource) {
  const pg_limit& limit = row.guard.limit[resource];
  if (row.guard.phase != PG_GUARD_ARMED || limit.phase == PG_LIMIT_DONE) {
    return std::nullopt;
  }
  core::Ns due = limit.due_ns;
  if (due == 0 && resource == PG_TIMEOUT && limit.base != 0) {
    due = core::saturating_add(limit.base, limit.limit);
  }
  return due == 0 ? std::nullopt : std::optional(core::saturating_sub(due, view_time(row)));
}

std::string two_units(core::Ns ns, core::Ns unit, const char* name, core::Ns below,
                      const char* below_name) {
  const core::Ns rest = ns % unit / below;
  return std::to_string(ns / unit) + name + (rest == 0 ? "" : std::to_string(rest) + below_name);
}

}  // namespace

core::Ns view_time(const proto::RowBody& row) {
  const pg_guard& guard = row.guard;
  if (guard.ended_ns != 0) {
    return guard.ended_ns;
  }
  return guard.paused_ns != 0 ? guard.paused_ns : row.now_ns;
}

std::vector<LimitView> limit_views(const proto::RowBody& row) {
  std::vector<LimitView> views;
  for (std::uint32_t resource = 0; resource < PG_RESOURCES; ++resource) {
    const pg_limit& limit = row.guard.limit[resource];
    if (limit.phase != PG_LIMIT_NONE) {
      views.push_back({.resource = resource,
                       .limit = limit.limit,
                       .used = used_of(row, resource),
                       .left = left_of(row, resource),
                       .state = &limit});
    }
  }
  return views;
}

std::string ladder_text(const pg_guard& guard, const pg_limit& limit) {
  if (guard.phase != PG_GUARD_ARMED || paused(guard)) {
    return phase_text(guard);
  }
  if (limit.phase == PG_LIMIT_OVER) {
    return "over";
  }
  // The numbers of a ladder have one digit: what comes in is not believed.
  const std::uint32_t steps = std::min<std::uint32_t>(guard.steps, PG_STEPS);
  const std::uint32_t taken = std::min(limit.next_step, steps);
  return std::to_string(taken) + "/" + std::to_string(steps) +
         (limit.phase == PG_LIMIT_DONE ? " done" : "");
}

std::string guard_number(std::uint64_t id) {
  return "g" + std::to_string(id);
}

std::string guard_title(const pg_guard& guard) {
  return sys::printable(proto::get_text(guard.name));
}

const char* phase_text(const pg_guard& guard) {
  return guard.phase == PG_GUARD_ARMED && paused(guard) ? "paused" : core::phase_name(guard.phase);
}

const char* mode_text(std::uint32_t mode) {
  return mode == PG_MODE_MONITOR ? "monitor" : "enforce";
}

const char* origin_text(std::uint32_t origin) {
  switch (origin) {
    case PG_ORIGIN_LOCAL:
      return "local";
    case PG_ORIGIN_SESSION:
      return "session";
    default:
      return "attach";
  }
}

std::string format_steps(const pg_guard& guard) {
  const std::uint32_t steps = std::min<std::uint32_t>(guard.steps, PG_STEPS);
  return core::format_ladder({guard.ladder, guard.ladder + steps});
}

std::string format_amount(const LimitView& limit, std::uint64_t value) {
  return limit.memory() ? core::format_size(value) : core::format_duration(value);
}

std::string format_short(core::Ns ns) {
  if (ns >= kForever) {
    return "inf";
  }
  if (ns < core::kMillisecond) {
    return std::to_string(ns / core::kMicrosecond) + "us";
  }
  if (ns < core::kSecond) {
    return std::to_string(ns / core::kMillisecond) + "ms";
  }
  if (ns < kMinute) {
    const core::Ns tenths = ns % core::kSecond / (100 * core::kMillisecond);
    return std::to_string(ns / core::kSecond) + (tenths == 0 ? "" : "." + std::to_string(tenths)) +
           "s";
  }
  if (ns < kHour) {
    return two_units(ns, kMinute, "m", core::kSecond, "s");
  }
  if (ns < kDay) {
    return two_units(ns, kHour, "h", kMinute, "m");
  }
  return ns < 100 * kDay ? two_units(ns, kDay, "d", kHour, "h") : std::to_string(ns / kDay) + "d";
}

}  // namespace procguard::cli
