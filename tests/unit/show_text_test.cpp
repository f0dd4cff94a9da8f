// SPDX-License-Identifier: Apache-2.0
// What `procguard show` and `procguard status` print.
#include "cli/show_text.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/guard_json.h"
#include "tests/support/rows.h"

namespace procguard::cli {
namespace {

using nlohmann::json;
using test::row_of;

proto::ShowBody shown() {
  proto::ShowBody show;
  show.row = row_of(12);
  show.row.guard.owner_uid = 1000;
  show.row.guard.step_resource = PG_MEMORY;
  show.row.guard.step_index = 1;
  show.row.guard.step_result = PG_RESULT_SENT;
  show.row.guard.step_by = PG_BY_KERNEL;
  show.row.guard.step_at_ns = test::kRowNow - core::kSecond;
  show.memory_plain_bytes = 20U << 20;
  show.memory_plain_peak_bytes = 21U << 20;
  show.usage.cpu_ns = 250 * core::kMillisecond;
  show.usage.blocked_ns[PG_BLOCKED_DISK] = core::kSecond;
  proto::put_text(show.labels, "team=a b\nx=y");
  proto::put_text(show.cgroup, "/jobs/a\n");
  return show;
}

proto::ThreadBody thread(std::uint32_t tid) {
  proto::ThreadBody body;
  body.pid = 4242;
  body.tid = tid;
  body.state = 'D';
  body.usage.grown_bytes[PG_RSS_ANON] = 8U << 20;
  proto::put_text(body.comm, "cc1");
  return body;
}

TEST(ShowText, SaysAll) {
  EXPECT_EQ(show_text(shown(), {thread(4243)}),
            "guard g12 'nightly': armed\n"
            "  target      tree 4242 (make), 3 processes\n"
            "  cgroup      /jobs/a\\x0a\n"
            "  labels      team=a b x=y\n"
            "  owner       uid 1000, by attach\n"
            "  mode        enforce\n"
            "  failsafe    none\n"
            "  age         500ms\n"
            "  ladder      INT,TERM,KILL\n"
            "  last step   step 1 of memory by the kernel, sent, 1s ago\n"
            "  memory      12.0MiB, peak 14.0MiB (plain sums 20.0MiB, 21.0MiB)\n"
            "  cpu         250ms\n"
            "  time        250ms on a CPU, 0ns waiting for one, blocked 0ns asleep, 1s in disk "
            "wait, 0ns stopped\n"
            "\n"
            "  RESOURCE    USED   LIMIT LEFT STEP GRACE STEP GRACE TRIPS\n"
            "  timeout    500ms      2s 1.5s 0/3    0ns        15s     0\n"
            "  memory   12.0MiB 64.0MiB    - 0/3    0ns         5s     0\n"
            "\n"
            "   PID  TID COMM STATE CPU CPU WAIT BLOCKED  GROWN\n"
            "  4242 4243 cc1  D     0ns      0ns     0ns 8.0MiB\n");
}

TEST(ShowText, Json) {
  const json all = json::parse(show_json(shown(), {thread(4243), thread(4244)}));
  EXPECT_EQ(all.at("schema"), 1);
  EXPECT_EQ(all.at("guard").at("id"), "g12");
  EXPECT_EQ(all.at("guard").at("last_step").at("by"), "kernel");
  EXPECT_EQ(all.at("labels"), (json{{"team", "a b"}, {"x", "y"}}));
  EXPECT_EQ(all.at("cgroup"), "/jobs/a\\x0a");
  EXPECT_EQ(all.at("exec_ns"), nullptr);
  EXPECT_EQ(all.at("usage").at("blocked_ns").at("disk"), core::kSecond);
  EXPECT_EQ(all.at("threads").at(1).at("tid"), 4244);
  EXPECT_EQ(all.at("threads").at(1).at("state"), "D");
}

TEST(ShowText, HostileBytes) {
  proto::ShowBody show;
  std::memset(static_cast<void*>(&show), 0xff, sizeof(show));
  proto::ThreadBody noise;
  std::memset(static_cast<void*>(&noise), 0xff, sizeof(noise));
  const std::string text = show_text(show, {noise});
  EXPECT_TRUE(std::all_of(text.begin(), text.end(), [](char c) {
    return c == '\n' || (c >= ' ' && c <= '~');
  })) << text;
  EXPECT_TRUE(json::accept(show_json(show, {noise})));
  EXPECT_TRUE(json::accept(show_json({}, {})));
  proto::put_text(show.labels, "no equals sign\n=\n\n\xff=\xfe");
  EXPECT_EQ(json::parse(show_json(show, {})).at("labels").at("\\xff"), "\\xfe");
}

proto::StatusBody running() {
  proto::StatusBody status;
  status.pid = 77;
  status.started_ns = 10 * core::kSecond;
  status.guards = 3;
  status.watches = 2;
  status.watches_max = 16384;
  status.connections = 1;
  status.gap_ns = 5 * core::kSecond;
  status.exact_sums = 1;
  proto::put_text(status.version, "0.1.0");
  proto::put_text(status.pin_dir, "/sys/fs/bpf/procguard");
  return status;
}

TEST(StatusText, SaysHowItIs) {
  EXPECT_EQ(status_text(running(), 105 * core::kSecond),
            "procguard agent 0.1.0: running as pid 77\n"
            "  up          1m35s\n"
            "  guards      3 (0 ended, 0 adopted)\n"
            "  sessions    0 programs, 1 connection\n"
            "  watches     2 of 16384\n"
            "  events      0 (0 lost)\n"
            "  losses      none\n"
            "  gap         nobody controlled for 5s before it started\n"
            "  sums        exact\n"
            "  failsafe    reaches a target when it next runs (before Linux 6.13)\n"
            "  pins        /sys/fs/bpf/procguard\n"
            "  you may     do what you may to your own guards\n");
}

TEST(StatusText, Losses) {
  proto::StatusBody status = running();
  status.losses.threads = 7;
  status.gap_ns = 0;
  const std::string text = status_text(status, 0);
  EXPECT_NE(text.find("0 edges, 0 processes, 7 threads"), std::string::npos) << text;
  EXPECT_NE(text.find("gap         none"), std::string::npos) << text;
}

TEST(StatusText, Json) {
  const json all = json::parse(status_json(running()));
  EXPECT_EQ(all.at("version"), "0.1.0");
  EXPECT_EQ(all.at("pid"), 77);
  EXPECT_EQ(all.at("losses").at("signals"), 0);
  EXPECT_EQ(all.at("may_do_everything"), false);
  EXPECT_EQ(all.at("exact_sums"), true);
}

}  // namespace
}  // namespace procguard::cli
