// SPDX-License-Identifier: Apache-2.0
#include "cli/report.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/guard.h"
#include "core/signals.h"

namespace procguard::cli {
namespace {

using nlohmann::ordered_json;

bool is_memory(std::uint32_t resource) {
  return resource == PG_MEMORY || resource == PG_MEMORY_GROWTH;
}

const char* unit_of(std::uint32_t resource) {
  return is_memory(resource) ? "bytes" : "ns";
}

ordered_json signal_json(int signal) {
  return signal == 0 ? ordered_json(nullptr) : ordered_json(core::signal_full_name(signal));
}

ordered_json or_null(std::uint64_t value) {
  return value == 0 ? ordered_json(nullptr) : ordered_json(value);
}

ordered_json or_null(const std::string& text) {
  return text.empty() ? ordered_json(nullptr) : ordered_json(text);
}

ordered_json parts_json(const __u64 (&bytes)[PG_RSS_PARTS]) {
  return {
      {"file", bytes[PG_RSS_FILE]}, {"anon", bytes[PG_RSS_ANON]}, {"shmem", bytes[PG_RSS_SHMEM]}};
}

ordered_json blocked_json(const pg_usage& usage) {
  return {{"sleep", usage.blocked_ns[PG_BLOCKED_SLEEP]},
          {"disk", usage.blocked_ns[PG_BLOCKED_DISK]},
          {"other", usage.blocked_ns[PG_BLOCKED_OTHER]}};
}

ordered_json guard_json(const RunOptions& options, const RunRecord& record) {
  const core::GuardSpec& spec = options.guard;
  return {{"id", record.guard_id},
          {"name", record.name},
          {"scope", core::scope_name(spec.scope)},
          {"mode", options.dry_run() ? "monitor" : "enforce"},
          {"timeout_ns", or_null(spec.timeout_ns)},
          {"cpu_limit_ns", or_null(spec.cpu_ns)},
          {"memory_limit_bytes", or_null(spec.memory_bytes)},
          {"memory_growth_limit_bytes", or_null(spec.memory_growth_bytes)},
          {"grace_ns", spec.grace_ns},
          {"step_grace_ns", or_null(spec.step_grace_ns)},
          {"ladder", core::format_ladder(spec.ladder)},
          {"started_ns", or_null(record.started_ns)}};
}

ordered_json target_json(const RunOptions& options, const RunRecord& record) {
  return {{"pid", or_null(static_cast<std::uint64_t>(std::max(record.pid, 0)))},
          {"start_time_ns", or_null(record.process_start_ns)},
          {"comm", record.comm},
          {"command", options.command},
          {"cgroup", or_null(options.cgroup)}};
}

const char* status_word(const RunRecord& record) {
  const Ending& ending = record.ending;
  if (ending.failed) {
    return "failed";
  }
  if (ending.exec_error != 0) {
    return "not_executed";
  }
  if (ending.tripped) {
    return "tripped";
  }
  return ending.command.signal != 0 ? "signaled" : "exited";
}

ordered_json killed_by(const RunRecord& record) {
  if (!record.command_ran || record.ending.command.signal == 0) {
    return nullptr;
  }
  if (record.ended_by_guard) {
    return "guard";
  }
  return record.ended_by_forwarded ? "forwarded" : "other";
}

ordered_json result_json(const RunRecord& record, int exit_status) {
  const CommandEnd& command = record.ending.command;
  const bool exited = record.command_ran && command.signal == 0;
  return {{"status", status_word(record)},
          {"exit_code", exited ? ordered_json(command.exit_code) : ordered_json(nullptr)},
          {"signal", record.command_ran ? signal_json(command.signal) : ordered_json(nullptr)},
          {"killed_by", killed_by(record)},
          {"procguard_exit_code", exit_status},
          {"error", or_null(record.failure)}};
}

// How far over the limit the level went at most.
ordered_json overshoot_json(const TripRecord& trip, const RunRecord& record) {
  if (!is_memory(trip.event.resource)) {
    return nullptr;
  }
  return core::saturating_sub(record.levels.memory_peak_bytes, trip.base + trip.event.limit);
}

ordered_json trip_json(const RunRecord& record) {
  if (!record.trip) {
    return nullptr;
  }
  const TripRecord& trip = *record.trip;
  const pg_event& event = trip.event;
  return {{"resource", core::resource_name(event.resource)},
          {"limit", event.limit},
          {"observed", event.observed},
          {"unit", unit_of(event.resource)},
          {"overshoot_bytes", overshoot_json(trip, record)},
          {"over_since_ns", core::saturating_sub(trip.over_since_ns, record.started_ns)},
          {"at_ns", core::saturating_sub(event.at_ns, record.started_ns)},
          {"by", core::by_name(event.by)},
          {"pid", event.pid},
          {"comm", trip.comm}};
}

ordered_json steps_json(const RunRecord& record) {
  ordered_json steps = ordered_json::array();
  for (const StepRecord& step : record.steps) {
    const pg_event& event = step.event;
    steps.push_back({{"resource", core::resource_name(event.resource)},
                     {"step", event.step},
                     {"action", "signal"},
                     {"signal", signal_json(static_cast<int>(event.signal))},
                     {"at_ns", core::saturating_sub(event.at_ns, record.started_ns)},
                     {"late_ns", core::saturating_sub(event.at_ns, event.due_ns)},
                     {"by", core::by_name(event.by)},
                     {"result", core::result_name(event.result)},
                     {"errno", event.error},
                     {"refused_pids", step.refused}});
  }
  return steps;
}

ordered_json usage_json(const RunRecord& record) {
  const pg_usage& usage = record.usage;
  return {{"wall_ns", core::saturating_sub(record.ended_ns, record.started_ns)},
          {"cpu_ns", usage.cpu_ns},
          {"runnable_wait_ns", usage.runnable_wait_ns},
          {"blocked_ns", blocked_json(usage)},
          {"peak_rss_bytes", record.levels.memory_peak_bytes},
          {"peak_rss_plain_sum_bytes", record.levels.memory_plain_peak_bytes},
          {"voluntary_switches", usage.voluntary_switches},
          {"involuntary_switches", usage.involuntary_switches},
          {"grown_bytes", parts_json(usage.grown_bytes)},
          {"shrunk_bytes", parts_json(usage.shrunk_bytes)},
          {"waited_for_cpu_ns", record.command_cpu_ns},
          {"waited_for_max_rss_bytes", record.command_max_rss_bytes}};
}

ordered_json threads_json(const RunRecord& record) {
  ordered_json threads = ordered_json::array();
  if (!record.look) {
    return threads;
  }
  for (const ThreadLook& look : record.look->threads) {
    const pg_usage& usage = look.thread.usage;
    threads.push_back({{"pid", look.thread.pid},
                       {"tid", look.thread.tid},
                       {"comm", look.thread.comm},
                       {"state", std::string(1, look.thread.state)},
                       {"syscall", or_null(look.syscall)},
                       {"wchan", or_null(look.wchan)},
                       {"diagnosis", activity_name(look.activity)},
                       {"cpu_ns", usage.cpu_ns},
                       {"runnable_wait_ns", usage.runnable_wait_ns},
                       {"blocked_ns", blocked_json(usage)},
                       {"voluntary_switches", usage.voluntary_switches},
                       {"involuntary_switches", usage.involuntary_switches},
                       {"grown_bytes", parts_json(usage.grown_bytes)},
                       {"shrunk_bytes", parts_json(usage.shrunk_bytes)}});
  }
  return threads;
}

ordered_json diagnosis_json(const RunRecord& record) {
  if (!record.look) {
    return nullptr;
  }
  std::vector<ThreadActivity> activities;
  for (const ThreadLook& look : record.look->threads) {
    activities.push_back({look.activity, look.thread.usage});
  }
  const Shares shares = shares_of(record.look->total);
  return {{"verdict", activity_name(diagnose_all(activities, record.look->total))},
          {"cpu_share", shares.cpu},
          {"runnable_wait_share", shares.runnable_wait},
          {"blocked_share", shares.blocked},
          {"at_ns", core::saturating_sub(record.look->at_ns, record.started_ns)},
          {"threads_omitted", record.look->omitted}};
}

}  // namespace

std::string report_json(const RunOptions& options, const RunRecord& record, int exit_status) {
  ordered_json report;
  report["schema"] = kReportSchema;
  report["procguard_version"] = PROCGUARD_VERSION;
  report["guard"] = guard_json(options, record);
  report["target"] = target_json(options, record);
  report["source"] = record.source;
  report["source_weaker_because"] = or_null(record.weaker_because);
  report["membership"] = record.membership;
  report["degraded"] = record.degraded;
  report["scheduling"] = record.scheduling;
  report["result"] = result_json(record, exit_status);
  report["trip"] = trip_json(record);
  report["steps"] = steps_json(record);
  report["steps_omitted"] = record.steps_omitted;
  report["usage"] = usage_json(record);
  report["diagnosis"] = diagnosis_json(record);
  report["threads"] = threads_json(record);
  report["leftovers"] = {{"policy", leftovers_name(options.leftovers)},
                         {"processes", record.leftovers}};
  return report.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace procguard::cli
