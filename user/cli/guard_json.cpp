// SPDX-License-Identifier: Apache-2.0
#include "cli/guard_json.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>

#include "cli/guard_view.h"
#include "core/guard.h"
#include "core/signals.h"
#include "proto/codec.h"
#include "sys/procfs_parse.h"

namespace procguard::cli {
namespace {

using nlohmann::ordered_json;

constexpr int kSchema = 1;

ordered_json or_null(std::uint64_t value) {
  return value == 0 ? ordered_json(nullptr) : ordered_json(value);
}

template <std::size_t Size>
ordered_json text_json(const char (&field)[Size]) {
  const std::string text = sys::printable(proto::get_text(field));
  return text.empty() ? ordered_json(nullptr) : ordered_json(text);
}

ordered_json limit_json(const LimitView& limit) {
  const pg_limit& state = *limit.state;
  return {{"resource", core::resource_name(limit.resource)},
          {"limit", limit.limit},
          {"used", limit.used},
          {"unit", limit.memory() ? "bytes" : "ns"},
          {"phase", core::limit_phase_name(state.phase)},
          {"left_ns", limit.left ? ordered_json(*limit.left) : ordered_json(nullptr)},
          {"grace_ns", state.grace_ns},
          {"step_grace_ns", state.step_grace_ns},
          {"over_since_ns", or_null(state.over_since_ns)},
          {"due_ns", or_null(state.due_ns)},
          {"next_step", state.next_step},
          {"episodes", state.episodes}};
}

ordered_json steps_json(const pg_guard& guard) {
  ordered_json steps = ordered_json::array();
  for (std::uint32_t i = 0; i < std::min<std::uint32_t>(guard.steps, PG_STEPS); ++i) {
    const pg_step& step = guard.ladder[i];
    const bool signal = step.action == PG_ACTION_SIGNAL;
    steps.push_back(
        {{"action", signal ? "signal" : "exception"},
         {"signal", signal ? ordered_json(core::signal_full_name(static_cast<int>(step.signal)))
                           : ordered_json(nullptr)},
         {"wait_ns", or_null(step.wait_ns)}});
  }
  return steps;
}

ordered_json last_step_json(const pg_guard& guard) {
  if (guard.step_result == PG_RESULT_NONE) {
    return nullptr;
  }
  return {{"resource", core::resource_name(guard.step_resource)},
          {"index", guard.step_index},
          {"at_ns", guard.step_at_ns},
          {"by", core::by_name(guard.step_by)},
          {"result", core::result_name(guard.step_result)}};
}

ordered_json row_json(const proto::RowBody& row) {
  const pg_guard& guard = row.guard;
  ordered_json limits = ordered_json::array();
  for (const LimitView& limit : limit_views(row)) {
    limits.push_back(limit_json(limit));
  }
  return {{"id", guard_number(guard.id)},
          {"name", text_json(guard.name)},
          {"scope", core::scope_name(guard.scope)},
          {"mode", mode_text(guard.mode)},
          {"owner_uid", guard.owner_uid},
          {"origin", origin_text(guard.origin)},
          {"session_pid", or_null(row.session_pid)},
          {"phase", phase_text(guard)},
          {"failsafe", (guard.flags & PG_GUARD_FAILSAFE) != 0 ? "kernel" : "none"},
          {"now_ns", row.now_ns},
          {"armed_ns", or_null(guard.armed_ns)},
          {"ended_ns", or_null(guard.ended_ns)},
          {"target",
           {{"pid", or_null(guard.pid)},
            {"tid", or_null(guard.tid)},
            {"comm", text_json(row.comm)},
            {"start_ns", or_null(guard.target_start_ns)},
            {"cgroup_id", or_null(guard.cgroup_id)},
            {"processes", row.processes}}},
          {"limits", std::move(limits)},
          {"ladder", steps_json(guard)},
          {"last_step", last_step_json(guard)},
          {"cpu_ns", row.cpu_ns},
          {"memory_bytes", row.memory_bytes},
          {"memory_peak_bytes", row.memory_peak_bytes},
          {"degraded", row.degraded != 0}};
}

ordered_json parts_json(const __u64 (&bytes)[PG_RSS_PARTS]) {
  return {
      {"file", bytes[PG_RSS_FILE]}, {"anon", bytes[PG_RSS_ANON]}, {"shmem", bytes[PG_RSS_SHMEM]}};
}

ordered_json usage_json(const pg_usage& usage) {
  return {{"cpu_ns", usage.cpu_ns},
          {"runnable_wait_ns", usage.runnable_wait_ns},
          {"blocked_ns",
           {{"sleep", usage.blocked_ns[PG_BLOCKED_SLEEP]},
            {"disk", usage.blocked_ns[PG_BLOCKED_DISK]},
            {"other", usage.blocked_ns[PG_BLOCKED_OTHER]}}},
          {"voluntary_switches", usage.voluntary_switches},
          {"involuntary_switches", usage.involuntary_switches},
          {"grown_bytes", parts_json(usage.grown_bytes)},
          {"shrunk_bytes", parts_json(usage.shrunk_bytes)}};
}

ordered_json thread_json(const proto::ThreadBody& thread) {
  const char state = static_cast<char>(thread.state);
  return {{"pid", thread.pid},
          {"tid", thread.tid},
          {"comm", text_json(thread.comm)},
          {"state", sys::printable(thread.state == 0 ? "?" : std::string(1, state))},
          {"usage", usage_json(thread.usage)}};
}

// "K=V" lines.
ordered_json labels_json(const std::string& text) {
  ordered_json labels = ordered_json::object();
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    const std::size_t equals = line.find('=');
    if (equals != std::string_view::npos) {
      labels[sys::printable(line.substr(0, equals))] = sys::printable(line.substr(equals + 1));
    }
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return labels;
}

}  // namespace

std::string list_json(const std::vector<proto::RowBody>& rows) {
  ordered_json guards = ordered_json::array();
  for (const proto::RowBody& row : rows) {
    guards.push_back(row_json(row));
  }
  return ordered_json{{"schema", kSchema}, {"guards", std::move(guards)}}.dump() + "\n";
}

std::string show_json(const proto::ShowBody& show, const std::vector<proto::ThreadBody>& threads) {
  ordered_json list = ordered_json::array();
  for (const proto::ThreadBody& thread : threads) {
    list.push_back(thread_json(thread));
  }
  const ordered_json all = {{"schema", kSchema},
                            {"guard", row_json(show.row)},
                            {"labels", labels_json(proto::get_text(show.labels))},
                            {"cgroup", text_json(show.cgroup)},
                            {"exec_ns", or_null(show.exec_ns)},
                            {"memory_plain_bytes", show.memory_plain_bytes},
                            {"memory_plain_peak_bytes", show.memory_plain_peak_bytes},
                            {"usage", usage_json(show.usage)},
                            {"threads", std::move(list)}};
  return all.dump(2) + "\n";
}

std::string status_json(const proto::StatusBody& status) {
  const ordered_json all = {{"schema", kSchema},
                            {"version", text_json(status.version)},
                            {"pid", status.pid},
                            {"started_ns", status.started_ns},
                            {"may_do_everything", status.may != 0},
                            {"guards", status.guards},
                            {"guards_ended", status.ended},
                            {"guards_adopted", status.adopted},
                            {"sessions", status.sessions},
                            {"connections", status.connections},
                            {"watches", status.watches},
                            {"watches_max", status.watches_max},
                            {"events", status.events},
                            {"events_lost", status.events_lost},
                            {"losses",
                             {{"edges", status.losses.edges},
                              {"processes", status.losses.processes},
                              {"threads", status.losses.threads},
                              {"memberships", status.losses.memberships},
                              {"signals", status.losses.signals}}},
                            {"gap_ns", or_null(status.gap_ns)},
                            {"exact_sums", status.exact_sums != 0},
                            {"failsafe_sleepers", status.failsafe_sleepers != 0},
                            {"pin_dir", text_json(status.pin_dir)}};
  return all.dump(2) + "\n";
}

}  // namespace procguard::cli
