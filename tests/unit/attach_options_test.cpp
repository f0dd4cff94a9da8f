// SPDX-License-Identifier: Apache-2.0
// The command line of `procguard attach`, and the request that it becomes.
#include "cli/attach_options.h"

#include <gtest/gtest.h>

#include <csignal>
#include <string>
#include <vector>

#include "core/ladder.h"
#include "proto/codec.h"

namespace procguard::cli {
namespace {

using Args = std::vector<std::string>;

std::string line_of(const Args& args) {
  std::string line;
  for (const std::string& word : args) {
    line += " '" + word + "'";
  }
  return line;
}

AttachOptions parsed(const Args& args) {
  auto options = parse_attach_options(args);
  EXPECT_TRUE(options) << line_of(args) << (options ? "" : options.error().message());
  return options ? options.value() : AttachOptions();
}

TEST(AttachOptions, Targets) {
  struct Row {
    Args args;
    pg_scope scope;
    pid_t number;
    const char* cgroup;
    const char* container;
  };
  const Row rows[] = {
      {{"--pid", "42"}, PG_SCOPE_PROCESS, 42, "", ""},
      {{"--pid=42"}, PG_SCOPE_PROCESS, 42, "", ""},
      {{"--tid", "43"}, PG_SCOPE_THREAD, 43, "", ""},
      {{"--tree", "44"}, PG_SCOPE_TREE, 44, "", ""},
      {{"--cgroup", "/jobs/a"}, PG_SCOPE_CGROUP, 0, "/jobs/a", ""},
      {{"--container", "3f2a9c"}, PG_SCOPE_CGROUP, 0, "", "3f2a9c"},
  };
  for (const Row& row : rows) {
    Args args = row.args;
    args.insert(args.end(), {"-t", "1"});
    const AttachOptions options = parsed(args);
    EXPECT_EQ(options.target.scope, row.scope) << line_of(args);
    EXPECT_EQ(options.guard.scope, row.scope) << line_of(args);
    EXPECT_EQ(options.target.number, row.number) << line_of(args);
    EXPECT_EQ(options.target.cgroup, row.cgroup) << line_of(args);
    EXPECT_EQ(options.target.container, row.container) << line_of(args);
  }
}

TEST(AttachOptions, TheRequest) {
  const AttachOptions options = parsed({"--tid",           "7",        "-t",         "2s",
                                        "--cpu",           "1s",       "-m",         "64M",
                                        "--memory-growth", "8M",       "--grace",    "3s",
                                        "--step-grace",    "4s",       "--escalate", "INT:5s,KILL",
                                        "--failsafe",      "kernel",   "--name",     "job",
                                        "--label",         "team=a b", "--label",    "x.y/z=",
                                        "--dry-run",       "--socket", "/s"});
  EXPECT_EQ(options.socket, "/s");
  const proto::AttachBody body = attach_body(options, Target{.fd = {}, .tid = 7});
  EXPECT_EQ(body.flags, proto::kHasFd | proto::kFailsafe | proto::kMonitor);
  EXPECT_EQ(body.scope, static_cast<std::uint32_t>(PG_SCOPE_THREAD));
  EXPECT_EQ(body.pid, 0U) << "the descriptor says which";
  EXPECT_EQ(body.tid, 7U);
  EXPECT_EQ(body.limit[PG_TIMEOUT], 2 * core::kSecond);
  EXPECT_EQ(body.limit[PG_CPU], core::kSecond);
  EXPECT_EQ(body.limit[PG_MEMORY], 64U << 20);
  EXPECT_EQ(body.limit[PG_MEMORY_GROWTH], 8U << 20);
  EXPECT_EQ(body.grace_ns, 3 * core::kSecond);
  EXPECT_EQ(body.step_grace_ns, 4 * core::kSecond);
  ASSERT_EQ(body.steps, 2U);
  EXPECT_EQ(core::format_ladder({body.ladder, body.ladder + 2}), "INT:5s,KILL");
  EXPECT_EQ(proto::get_text(body.name), "job");
  EXPECT_EQ(proto::get_text(body.labels), "team=a b\nx.y/z=");
}

TEST(AttachOptions, Defaults) {
  const AttachOptions options = parsed({"--pid", "1", "-m", "1G"});
  const proto::AttachBody body = attach_body(options, {});
  EXPECT_EQ(body.flags, static_cast<std::uint32_t>(proto::kHasFd));
  EXPECT_EQ(body.limit[PG_TIMEOUT], 0U);
  EXPECT_EQ(body.step_grace_ns, 0U);
  EXPECT_EQ(core::format_ladder({body.ladder, body.ladder + body.steps}), "INT,TERM,TERM");
  EXPECT_TRUE(options.socket.empty());
  EXPECT_EQ(proto::get_text(body.name), "");
}

TEST(AttachOptions, Help) {
  const auto options = parse_attach_options({"--help"});
  ASSERT_TRUE(options);
  for (const char* text : {"Usage: procguard attach", "--container", "Exit status", "Examples:"}) {
    EXPECT_NE(options->help.find(text), std::string::npos) << text;
  }
  EXPECT_EQ(options->help.back(), '\n');
}

TEST(AttachOptions, Mistakes) {
  struct Row {
    Args args;
    const char* mentions;
  };
  const std::string longest = "k=" + std::string(PG_LABELS_LEN, 'v');
  const Row rows[] = {
      {{}, "no target"},
      {{"-t", "1"}, "no target"},
      {{"--pid", "1"}, "no limit"},
      {{"--pid", "1", "--tree", "1", "-t", "1"}, "exclude each other"},
      {{"--cgroup", "/a", "--container", "abc", "-t", "1"}, "exclude each other"},
      {{"--pid", "0", "-t", "1"}, "--pid"},
      {{"--pid", "-1", "-t", "1"}, "--pid"},
      {{"--pid", "self", "-t", "1"}, "self"},
      {{"--pid", "1 2", "-t", "1"}, "1 2"},
      {{"--pid", "99999999999", "-t", "1"}, "99999999999"},
      {{"--pid", "", "-t", "1"}, "--pid"},
      {{"--tid", "0x10", "-t", "1"}, "--tid"},
      {{"--pid"}, "--pid"},
      {{"--cgroup", "", "-t", "1"}, "--cgroup"},
      {{"--container", "", "-t", "1"}, "--container"},
      {{"--pid", "1", "4242", "-t", "1"}, "4242"},
      {{"--pid", "1", "-t", "1", "--", "true"}, "true"},
      {{"--pid", "1", "-t", "0"}, "--timeout"},
      {{"--pid", "1", "-m", "64"}, "a unit is needed"},
      {{"--pid", "1", "-t", "1", "--grace", "1s"}, "--step-grace"},
      {{"--pid", "1", "-t", "1", "--interrupt", "exception"}, "exception"},
      {{"--pid", "1", "-t", "1", "--kill", "-s", "INT"}, "exclude each other"},
      {{"--pid", "1", "-t", "1", "--escalate", "FOO"}, "FOO"},
      {{"--pid", "1", "-t", "1", "--failsafe", "maybe"}, "none, kernel"},
      {{"--pid", "1", "-t", "1", "--name", "a b"}, "--name"},
      {{"--pid", "1", "-t", "1", "--name", std::string(PG_NAME_LEN, 'n')}, "--name"},
      {{"--pid", "1", "-t", "1", "--name", "g12"}, "g12"},
      {{"--pid", "1", "-t", "1", "--name", "12"}, "number"},
      {{"--pid", "1", "-t", "1", "--label", "team"}, "K=V"},
      {{"--pid", "1", "-t", "1", "--label", "=a"}, "K=V"},
      {{"--pid", "1", "-t", "1", "--label", "[a=1,b=2]"}, "[a=1,b=2]"},
      {{"--pid", "1", "-t", "1", "--label", ""}, "K=V"},
      {{"--pid", "1", "-t", "1", "--label"}, "--label"},
      {{"--pid", "1", "-t", "1", "--label", "a b=c"}, "K=V"},
      {{"--pid", "1", "-t", "1", "--label", std::string(64, 'k') + "=v"}, "K=V"},
      {{"--pid", "1", "-t", "1", "--label", "a=b\nc=d"}, "K=V"},
      {{"--pid", "1", "-t", "1", "--label", "a=1", "--label", "a=2"}, "twice"},
      {{"--pid", "1", "-t", "1", "--label", longest}, "less than 256"},
      {{"--pid", "1", "-t", "1", "--socket", ""}, "--socket"},
      {{"--pid", "1", "-t", "1", "--leftovers", "kill"}, "--leftovers"},
      {{"--pid", "1", "-t", "1", "-q"}, "-q"},
  };
  for (const Row& row : rows) {
    const auto options = parse_attach_options(row.args);
    ASSERT_FALSE(options) << line_of(row.args);
    EXPECT_NE(options.error().message().find(row.mentions), std::string::npos)
        << line_of(row.args) << " said: " << options.error().message();
  }
}

}  // namespace
}  // namespace procguard::cli
