// SPDX-License-Identifier: Apache-2.0
// The report: its keys, and what is null when.
#include "cli/report.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <csignal>
#include <nlohmann/json.hpp>
#include <string>

#include "core/ladder.h"

namespace procguard::cli {
namespace {

using nlohmann::json;

constexpr core::Ns kStart = 1'000'000'000'000;
constexpr std::uint64_t kMiB = 1U << 20;

RunOptions some_options() {
  RunOptions options;
  options.guard.memory_bytes = 64 * kMiB;
  options.guard.scope = PG_SCOPE_TREE;
  options.guard.ladder = core::preset_ladder(core::Preset::kSignal, false);
  options.command = {"leak", "2G"};
  return options;
}

RunRecord calm_record() {
  RunRecord record;
  record.guard_id = 1;
  record.name = "g1";
  record.pid = 4242;
  record.comm = "leak";
  record.source = "bpf";
  record.membership = "bpf";
  record.scheduling = "SCHED_FIFO 1, reset on fork";
  record.started_ns = kStart;
  record.ended_ns = kStart + 5000;
  record.command_ran = true;
  record.ending.command.exit_code = 3;
  record.usage.cpu_ns = 70;
  record.usage.blocked_ns[PG_BLOCKED_DISK] = 9;
  record.levels.memory_peak_bytes = 64 * kMiB + 4096;
  record.levels.memory_plain_peak_bytes = 70 * kMiB;
  return record;
}

// Tripped by memory; SIGINT by the kernel.
RunRecord tripped_record() {
  RunRecord record = calm_record();
  pg_event event{};
  event.kind = PG_EVENT_STEP;
  event.resource = PG_MEMORY;
  event.limit = 64 * kMiB;
  event.observed = 64 * kMiB + 4096;
  event.at_ns = kStart + 300;
  event.due_ns = kStart + 200;
  event.pid = 4242;
  event.action = PG_ACTION_SIGNAL;
  event.signal = SIGINT;
  event.by = PG_BY_KERNEL;
  event.result = PG_RESULT_SENT;
  record.steps.push_back({event, {77}});
  record.trip =
      TripRecord{.event = event, .over_since_ns = kStart + 200, .base = 0, .comm = "leak"};
  record.ending.tripped = PG_MEMORY;
  record.ending.command = {.exit_code = 0, .signal = SIGINT};
  record.ended_by_guard = true;
  Look look;
  ThreadLook thread;
  thread.thread.pid = 4242;
  thread.thread.tid = 4243;
  thread.thread.comm = "leak";
  thread.thread.state = 'R';
  thread.thread.usage.cpu_ns = 60;
  thread.thread.usage.grown_bytes[PG_RSS_ANON] = 63 * kMiB;
  thread.activity = Activity::kSpinning;
  look.threads.push_back(thread);
  look.total = thread.thread.usage;
  look.at_ns = kStart + 310;
  record.look = look;
  return record;
}

json report_of(const RunRecord& record, int exit_status) {
  return json::parse(report_json(some_options(), record, exit_status));
}

TEST(Report, WithoutATrip) {
  const json report = report_of(calm_record(), 3);
  EXPECT_EQ(report["schema"], kReportSchema);
  EXPECT_EQ(report["guard"]["id"], 1);
  EXPECT_EQ(report["guard"]["name"], "g1");
  EXPECT_EQ(report["guard"]["scope"], "tree");
  EXPECT_EQ(report["guard"]["mode"], "enforce");
  EXPECT_EQ(report["guard"]["memory_limit_bytes"], 64 * kMiB);
  EXPECT_TRUE(report["guard"]["timeout_ns"].is_null());
  EXPECT_EQ(report["guard"]["ladder"], "INT,TERM,TERM");
  EXPECT_EQ(report["target"]["pid"], 4242);
  EXPECT_EQ(report["target"]["command"], (json{"leak", "2G"}));
  EXPECT_EQ(report["result"]["status"], "exited");
  EXPECT_EQ(report["result"]["exit_code"], 3);
  EXPECT_TRUE(report["result"]["signal"].is_null());
  EXPECT_TRUE(report["result"]["killed_by"].is_null());
  EXPECT_EQ(report["result"]["procguard_exit_code"], 3);
  EXPECT_TRUE(report["trip"].is_null());
  EXPECT_EQ(report["steps"], json::array());
  EXPECT_EQ(report["threads"], json::array());
  EXPECT_TRUE(report["diagnosis"].is_null());
  EXPECT_EQ(report["usage"]["wall_ns"], 5000);
  EXPECT_EQ(report["usage"]["cpu_ns"], 70);
  EXPECT_EQ(report["usage"]["blocked_ns"]["disk"], 9);
  EXPECT_EQ(report["usage"]["peak_rss_plain_sum_bytes"], 70 * kMiB);
  EXPECT_EQ(report["scheduling"], "SCHED_FIFO 1, reset on fork");
  EXPECT_EQ(report["leftovers"]["policy"], "leave");
}

TEST(Report, WithATrip) {
  const json report = report_of(tripped_record(), 124);
  EXPECT_EQ(report["result"]["status"], "tripped");
  EXPECT_TRUE(report["result"]["exit_code"].is_null());
  EXPECT_EQ(report["result"]["signal"], "SIGINT");
  EXPECT_EQ(report["result"]["killed_by"], "guard");
  const json& trip = report["trip"];
  EXPECT_EQ(trip["resource"], "memory");
  EXPECT_EQ(trip["unit"], "bytes");
  EXPECT_EQ(trip["limit"], 64 * kMiB);
  EXPECT_EQ(trip["overshoot_bytes"], 4096);
  EXPECT_EQ(trip["over_since_ns"], 200) << "since the guard began";
  EXPECT_EQ(trip["by"], "kernel");
  const json& step = report["steps"][0];
  EXPECT_EQ(step["step"], 0);
  EXPECT_EQ(step["action"], "signal");
  EXPECT_EQ(step["signal"], "SIGINT");
  EXPECT_EQ(step["at_ns"], 300);
  EXPECT_EQ(step["late_ns"], 100);
  EXPECT_EQ(step["by"], "kernel");
  EXPECT_EQ(step["result"], "sent");
  EXPECT_EQ(step["refused_pids"], json::array({77}));
  const json& thread = report["threads"][0];
  EXPECT_EQ(thread["tid"], 4243);
  EXPECT_EQ(thread["grown_bytes"]["anon"], 63 * kMiB);
  EXPECT_EQ(thread["diagnosis"], "spinning");
  EXPECT_TRUE(thread["wchan"].is_null());
  EXPECT_EQ(report["diagnosis"]["verdict"], "spinning");
  EXPECT_EQ(report["diagnosis"]["cpu_share"], 1.0);
}

struct StatusRow {
  const char* description;
  void (*change)(RunRecord&);
  const char* status;
  json killed_by;
};

TEST(Report, HowItEnded) {
  const StatusRow rows[] = {
      {"signal from elsewhere",
       [](RunRecord& r) {
         r.ending.command = {0, SIGSEGV};
       },
       "signaled", "other"},
      {"forwarded",
       [](RunRecord& r) {
         r.ending.command = {0, SIGTERM};
         r.ended_by_forwarded = true;
       },
       "signaled", "forwarded"},
      {"tripped, exited by itself", [](RunRecord& r) { r.ending.tripped = PG_CPU; }, "tripped",
       nullptr},
      {"not executed",
       [](RunRecord& r) {
         r.ending.exec_error = ENOENT;
         r.command_ran = false;
       },
       "not_executed", nullptr},
      {"procguard failed",
       [](RunRecord& r) {
         r.ending.failed = true;
         r.command_ran = false;
       },
       "failed", nullptr},
  };
  for (const StatusRow& row : rows) {
    RunRecord record = calm_record();
    row.change(record);
    const json result = report_of(record, 0)["result"];
    EXPECT_EQ(result["status"], row.status) << row.description;
    EXPECT_EQ(result["killed_by"], row.killed_by) << row.description;
  }
}

TEST(Report, NamesThatAreNoTextAreStillJson) {
  RunRecord record = calm_record();
  record.comm = "a\"\n\xff\xfe";
  const std::string text = report_json(some_options(), record, 0);
  EXPECT_TRUE(json::accept(text)) << text;
  EXPECT_EQ(text.back(), '\n');
}

}  // namespace
}  // namespace procguard::cli
