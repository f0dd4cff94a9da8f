// SPDX-License-Identifier: Apache-2.0
#include "cli/list_text.h"

#include "cli/guard_view.h"
#include "cli/text_table.h"
#include "core/guard.h"
#include "core/units.h"
#include "proto/codec.h"
#include "sys/procfs_parse.h"

namespace procguard::cli {
namespace {

constexpr std::size_t kColumns = 80;

std::string comm_of(const proto::RowBody& row) {
  return sys::printable(proto::get_text(row.comm));
}

std::string or_dash(const std::string& text) {
  return text.empty() ? "-" : text;
}

// "tree 4242 make"
std::string target_text(const proto::RowBody& row) {
  const pg_guard& guard = row.guard;
  std::string text = core::scope_name(guard.scope);
  if (guard.scope == PG_SCOPE_CGROUP) {
    text += " " + std::to_string(guard.cgroup_id);
  } else {
    text += " " + std::to_string(guard.scope == PG_SCOPE_THREAD ? guard.tid : guard.pid);
  }
  const std::string comm = comm_of(row);
  return comm.empty() ? text : text + " " + comm;
}

std::string short_amount(const LimitView& limit, std::uint64_t value) {
  return limit.memory() ? core::format_size(value) : format_short(value);
}

// A guard without limits is none, but may come in: it has a line too.
std::vector<LimitView> views_or_one(const proto::RowBody& row) {
  std::vector<LimitView> views = limit_views(row);
  if (views.empty()) {
    views.emplace_back();
  }
  return views;
}

std::string resource_text(const LimitView& limit) {
  return limit.state == nullptr ? "-" : core::resource_name(limit.resource);
}

}  // namespace

std::string list_table(const std::vector<proto::RowBody>& rows) {
  TextTable table({{"GUARD"},
                   {.head = "NAME", .right = false, .shortest = 3},
                   {.head = "TARGET", .right = false, .shortest = 3},
                   {"RESOURCE"},
                   {"USED", true},
                   {"LIMIT", true},
                   {"LEFT", true},
                   {"STEP"}});
  for (const proto::RowBody& row : rows) {
    for (const LimitView& limit : views_or_one(row)) {
      const bool none = limit.state == nullptr;
      table.add({guard_number(row.guard.id), or_dash(guard_title(row.guard)), target_text(row),
                 resource_text(limit), none ? "-" : short_amount(limit, limit.used),
                 none ? "-" : short_amount(limit, limit.limit),
                 limit.left ? format_short(*limit.left) : "-",
                 none ? phase_text(row.guard) : ladder_text(row.guard, *limit.state)});
    }
  }
  return table.text(kColumns);
}

std::string list_wide(const std::vector<proto::RowBody>& rows) {
  TextTable table({{"GUARD"},       {"NAME"},         {"SCOPE"},        {"PID", true},
                   {"TID", true},   {"COMM"},         {"CGROUP", true}, {"PROCESSES", true},
                   {"OWNER", true}, {"MODE"},         {"ORIGIN"},       {"PHASE"},
                   {"CPU", true},   {"MEMORY", true}, {"PEAK", true},   {"RESOURCE"},
                   {"USED", true},  {"LIMIT", true},  {"GRACE", true},  {"LEFT", true},
                   {"STEP"},        {"LADDER"},       {"DEGRADED"}});
  const auto number = [](std::uint64_t value) {
    return value == 0 ? std::string("-") : std::to_string(value);
  };
  for (const proto::RowBody& row : rows) {
    const pg_guard& guard = row.guard;
    for (const LimitView& limit : views_or_one(row)) {
      const bool none = limit.state == nullptr;
      table.add({guard_number(guard.id),
                 or_dash(guard_title(guard)),
                 core::scope_name(guard.scope),
                 number(guard.pid),
                 number(guard.tid),
                 or_dash(comm_of(row)),
                 number(guard.cgroup_id),
                 std::to_string(row.processes),
                 std::to_string(guard.owner_uid),
                 mode_text(guard.mode),
                 origin_text(guard.origin),
                 phase_text(guard),
                 core::format_duration(row.cpu_ns),
                 core::format_size(row.memory_bytes),
                 core::format_size(row.memory_peak_bytes),
                 resource_text(limit),
                 none ? "-" : format_amount(limit, limit.used),
                 none ? "-" : format_amount(limit, limit.limit),
                 none ? "-" : core::format_duration(limit.state->grace_ns),
                 limit.left ? core::format_duration(*limit.left) : "-",
                 none ? "-" : ladder_text(guard, *limit.state),
                 or_dash(format_steps(guard)),
                 row.degraded != 0 ? "yes" : "no"});
    }
  }
  return table.text();
}

}  // namespace procguard::cli
