// SPDX-License-Identifier: Apache-2.0
#include "cli/show_text.h"

#include <algorithm>
#include <numeric>

#include "cli/guard_view.h"
#include "cli/text_table.h"
#include "core/guard.h"
#include "core/units.h"
#include "proto/codec.h"
#include "sys/procfs_parse.h"

namespace procguard::cli {
namespace {

constexpr std::size_t kIndent = 14;

// "  owner       uid 0\n"; nothing where there is nothing to say.
std::string field(const char* name, const std::string& value) {
  if (value.empty()) {
    return "";
  }
  std::string line = std::string("  ") + name;
  line.resize(kIndent, ' ');
  return line + value + "\n";
}

std::string count(std::uint64_t number, const char* one, const char* many) {
  return std::to_string(number) + " " + (number == 1 ? one : many);
}

std::string target_text(const proto::RowBody& row) {
  const pg_guard& guard = row.guard;
  std::string text = core::scope_name(guard.scope);
  if (guard.scope == PG_SCOPE_THREAD) {
    text += " " + std::to_string(guard.tid) + " of process";
  }
  text += " " + std::to_string(guard.scope == PG_SCOPE_CGROUP ? guard.cgroup_id : guard.pid);
  const std::string comm = sys::printable(proto::get_text(row.comm));
  text += comm.empty() ? "" : " (" + comm + ")";
  return text + ", " + count(row.processes, "process", "processes");
}

std::string labels_text(const std::string& labels) {
  std::string text = labels;
  std::replace(text.begin(), text.end(), '\n', ' ');
  return sys::printable(text);
}

std::string last_step_text(const proto::RowBody& row) {
  const pg_guard& guard = row.guard;
  if (guard.step_result == PG_RESULT_NONE) {
    return "";
  }
  return "step " + std::to_string(guard.step_index) + " of " +
         core::resource_name(guard.step_resource) + " by the " + core::by_name(guard.step_by) +
         ", " + core::result_name(guard.step_result) + ", " +
         core::format_duration(core::saturating_sub(row.now_ns, guard.step_at_ns)) + " ago";
}

std::string limits_text(const proto::RowBody& row) {
  TextTable table({{"RESOURCE"},
                   {"USED", true},
                   {"LIMIT", true},
                   {"LEFT", true},
                   {"STEP"},
                   {"GRACE", true},
                   {"STEP GRACE", true},
                   {"TRIPS", true}});
  for (const LimitView& limit : limit_views(row)) {
    table.add(
        {core::resource_name(limit.resource), format_amount(limit, limit.used),
         format_amount(limit, limit.limit), limit.left ? core::format_duration(*limit.left) : "-",
         ladder_text(row.guard, *limit.state), core::format_duration(limit.state->grace_ns),
         core::format_duration(limit.state->step_grace_ns), std::to_string(limit.state->episodes)});
  }
  return "\n" + table.text(0, "  ");
}

std::string times_text(const pg_usage& usage) {
  const auto time = [](std::uint64_t ns) { return core::format_duration(ns); };
  return time(usage.cpu_ns) + " on a CPU, " + time(usage.runnable_wait_ns) +
         " waiting for one, blocked " + time(usage.blocked_ns[PG_BLOCKED_SLEEP]) + " asleep, " +
         time(usage.blocked_ns[PG_BLOCKED_DISK]) + " in disk wait, " +
         time(usage.blocked_ns[PG_BLOCKED_OTHER]) + " stopped";
}

std::string threads_text(const std::vector<proto::ThreadBody>& threads) {
  TextTable table({{"PID", true},
                   {"TID", true},
                   {"COMM"},
                   {"STATE"},
                   {"CPU", true},
                   {"CPU WAIT", true},
                   {"BLOCKED", true},
                   {"GROWN", true}});
  for (const proto::ThreadBody& thread : threads) {
    const pg_usage& usage = thread.usage;
    const char state = static_cast<char>(thread.state);
    const auto sum = [](const auto& parts) {
      return std::accumulate(std::begin(parts), std::end(parts), std::uint64_t{0});
    };
    table.add({std::to_string(thread.pid), std::to_string(thread.tid),
               sys::printable(proto::get_text(thread.comm)),
               thread.state == 0 ? "?" : sys::printable(std::string(1, state)),
               core::format_duration(usage.cpu_ns), core::format_duration(usage.runnable_wait_ns),
               core::format_duration(sum(usage.blocked_ns)),
               core::format_size(sum(usage.grown_bytes))});
  }
  return table.empty() ? "" : "\n" + table.text(0, "  ");
}

std::string losses_text(const pg_losses& losses) {
  const std::uint64_t all =
      losses.edges + losses.processes + losses.threads + losses.memberships + losses.signals;
  if (all == 0) {
    return "none";
  }
  return std::to_string(losses.edges) + " edges, " + std::to_string(losses.processes) +
         " processes, " + std::to_string(losses.threads) + " threads, " +
         std::to_string(losses.memberships) + " memberships, " + std::to_string(losses.signals) +
         " signals";
}

}  // namespace

std::string show_text(const proto::ShowBody& show, const std::vector<proto::ThreadBody>& threads) {
  const proto::RowBody& row = show.row;
  const pg_guard& guard = row.guard;
  const std::string name = guard_title(guard);
  std::string text = "guard " + guard_number(guard.id) + (name.empty() ? "" : " '" + name + "'") +
                     ": " + phase_text(guard) + "\n";
  text += field("target", target_text(row));
  text += field("cgroup", sys::printable(proto::get_text(show.cgroup)));
  text += field("labels", labels_text(proto::get_text(show.labels)));
  text += field("owner",
                "uid " + std::to_string(guard.owner_uid) + ", by " + origin_text(guard.origin) +
                    (row.session_pid == 0 ? "" : " of pid " + std::to_string(row.session_pid)));
  text += field("mode", mode_text(guard.mode));
  text += field("failsafe", (guard.flags & PG_GUARD_FAILSAFE) != 0 ? "kernel" : "none");
  text += field("age", guard.armed_ns == 0 ? ""
                                           : core::format_duration(core::saturating_sub(
                                                 view_time(row), guard.armed_ns)));
  text += field("ladder", format_steps(guard));
  text += field("last step", last_step_text(row));
  text += field("memory", core::format_size(row.memory_bytes) + ", peak " +
                              core::format_size(row.memory_peak_bytes) + " (plain sums " +
                              core::format_size(show.memory_plain_bytes) + ", " +
                              core::format_size(show.memory_plain_peak_bytes) + ")");
  text += field("cpu", core::format_duration(row.cpu_ns));
  text += field("time", times_text(show.usage));
  text += field("degraded", row.degraded != 0 ? "members or levels may be missing" : "");
  return text + limits_text(row) + threads_text(threads);
}

std::string status_text(const proto::StatusBody& status, core::Ns now) {
  std::string text = "procguard agent " + sys::printable(proto::get_text(status.version)) +
                     ": running as pid " + std::to_string(status.pid) + "\n";
  text += field("up", core::format_duration(core::saturating_sub(now, status.started_ns)));
  text += field("guards", std::to_string(status.guards) + " (" + std::to_string(status.ended) +
                              " ended, " + std::to_string(status.adopted) + " adopted)");
  text += field("sessions", count(status.sessions, "program", "programs") + ", " +
                                count(status.connections, "connection", "connections"));
  text += field("watches",
                std::to_string(status.watches) + " of " + std::to_string(status.watches_max));
  text += field("events", std::to_string(status.events) + " (" +
                              std::to_string(status.events_lost) + " lost)");
  text += field("losses", losses_text(status.losses));
  text += field("gap", status.gap_ns == 0
                           ? "none"
                           : "nobody controlled for " + core::format_duration(status.gap_ns) +
                                 " before it started");
  text += field("sums", status.exact_sums != 0 ? "exact" : "confirmed from /proc");
  text += field("failsafe", status.failsafe_sleepers != 0
                                ? "reaches all targets"
                                : "reaches a target when it next runs (before Linux 6.13)");
  text += field("pins", sys::printable(proto::get_text(status.pin_dir)));
  text +=
      field("you may", status.may != 0 ? "do everything" : "do what you may to your own guards");
  return text;
}

}  // namespace procguard::cli
