// SPDX-License-Identifier: Apache-2.0
// The command lines of the subcommands that ask the agent about guards that are there.
#include "cli/agent_options.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "proto/codec.h"

namespace procguard::cli {
namespace {

using Args = std::vector<std::string>;

constexpr std::uint64_t kNow = 1'800'000'000 * core::kSecond;

TEST(AgentOptions, List) {
  const auto plain = parse_list_options({});
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->output, ListOutput::kTable);
  EXPECT_FALSE(plain->watch || plain->all);
  const auto all = parse_list_options({"-o", "wide", "--watch", "-a", "--socket=/x"});
  ASSERT_TRUE(all);
  EXPECT_EQ(all->output, ListOutput::kWide);
  EXPECT_TRUE(all->watch && all->all);
  EXPECT_EQ(all->socket, "/x");
  EXPECT_EQ(parse_list_options({"--output", "json"})->output, ListOutput::kJson);
}

TEST(AgentOptions, GuardsStandAnywhere) {
  for (const Args& args :
       {Args{"g12", "-o", "json"}, Args{"-o", "json", "12"}, Args{"-ojson", "--", "g12"}}) {
    const auto show = parse_show_options(args);
    ASSERT_TRUE(show) << show.error().message();
    EXPECT_EQ(show->guard.ref.id, 12U);
    EXPECT_TRUE(show->json);
  }
}

TEST(AgentOptions, Guards) {
  const auto guards = parse_guards_options("pause", {"[a,b]", "g1", "--", "-x"});
  ASSERT_TRUE(guards) << guards.error().message();
  ASSERT_EQ(guards->guards.size(), 3U);
  EXPECT_EQ(proto::get_text(guards->guards[0].ref.name), "[a,b]");
  EXPECT_EQ(guards->guards[1].ref.id, 1U);
  EXPECT_EQ(guards->guards[2].word, "-x");
  EXPECT_TRUE(parse_guards_options("progress", {})->guards.empty());
  EXPECT_EQ(parse_guards_options("progress", {"job"})->guards.size(), 1U);
}

TEST(AgentOptions, Set) {
  const auto set = parse_set_options({"job", "-t", "2h", "-m", "1G"});
  ASSERT_TRUE(set) << set.error().message();
  EXPECT_EQ(proto::get_text(set->guard.ref.name), "job");
  EXPECT_EQ(set->limits.timeout_ns, 7200 * core::kSecond);
  EXPECT_EQ(set->limits.cpu_ns, 0U);
  EXPECT_EQ(set->limits.memory_bytes, 1U << 30);
}

TEST(AgentOptions, Events) {
  const auto all = parse_events_options({}, kNow);
  ASSERT_TRUE(all);
  EXPECT_EQ(all->since.real_ns, 0U);
  const auto follow = parse_events_options({"-f"}, kNow);
  ASSERT_TRUE(follow && follow->follow);
  EXPECT_EQ(follow->since.real_ns, kNow) << "from now on";
  const auto since = parse_events_options(
      {"--follow", "--since", "@17", "--filter", "guard=g1", "-o", "json"}, kNow);
  ASSERT_TRUE(since && since->json);
  EXPECT_EQ(since->since.seq, 17U);
  EXPECT_EQ(since->since.real_ns, 0U);
  EXPECT_FALSE(since->filter.empty());
}

TEST(AgentOptions, HelpHasExamplesAndStatuses) {
  for (const char* command : {"pause", "resume", "release", "progress"}) {
    const auto guards = parse_guards_options(command, {"--help"});
    ASSERT_TRUE(guards);
    EXPECT_NE(guards->help.find(std::string("Usage: procguard ") + command), std::string::npos);
  }
  const std::string helps[] = {
      parse_list_options({"-h"})->help,         parse_show_options({"-h"})->help,
      parse_set_options({"-h"})->help,          parse_guards_options("pause", {"-h"})->help,
      parse_events_options({"-h"}, kNow)->help, parse_status_options({"-h"})->help};
  for (const std::string& help : helps) {
    for (const char* text : {"--socket", "Examples:", "Exit status:"}) {
      EXPECT_NE(help.find(text), std::string::npos) << text << " in\n" << help;
    }
  }
}

// What is wrong with a command line; empty: nothing.
std::string mistake(const std::string& command, const Args& args) {
  const auto said = [](const auto& parsed) { return parsed ? "" : parsed.error().message(); };
  if (command == "list") {
    return said(parse_list_options(args));
  }
  if (command == "show") {
    return said(parse_show_options(args));
  }
  if (command == "set") {
    return said(parse_set_options(args));
  }
  if (command == "events") {
    return said(parse_events_options(args, kNow));
  }
  return command == "status" ? said(parse_status_options(args))
                             : said(parse_guards_options(command, args));
}

TEST(AgentOptions, Mistakes) {
  struct Row {
    const char* command;
    Args args;
    const char* mentions;
  };
  const Row rows[] = {
      {"list", {"g1"}, "g1"},
      {"list", {"-o", "xml"}, "table, wide, json"},
      {"list", {"-o"}, "-o"},
      {"list", {"--frobnicate"}, "--frobnicate"},
      {"show", {}, "no guard"},
      {"show", {"a", "b"}, "b"},
      {"show", {"a b"}, "a b"},
      {"show", {""}, "expected"},
      {"show", {"g1", "-o", "wide"}, "text, json"},
      {"set", {"g1"}, "no limit"},
      {"set", {"-t", "1"}, "no guard"},
      {"set", {"g1", "-t", "0"}, "--timeout"},
      {"set", {"g1", "-m", "1"}, "a unit is needed"},
      {"set", {"g1", "g2", "-t", "1"}, "g2"},
      {"set", {"g1", "-t", "1", "--grace", "1"}, "--grace"},
      {"pause", {}, "no guard"},
      {"resume", {"g0"}, "g0"},
      {"release", {"ok", "not ok"}, "not ok"},
      {"release", {"--all"}, "--all"},
      {"progress", {"a", "b"}, "at most one"},
      {"events", {"g1"}, "g1"},
      {"events", {"--since", "soon"}, "--since"},
      {"events", {"--since", ""}, "--since"},
      {"events", {"--filter", "a=b"}, "--filter"},
      {"events", {"--filter", ""}, "--filter"},
      {"status", {"now"}, "now"},
      {"status", {"--socket", ""}, "--socket"},
  };
  for (const Row& row : rows) {
    const std::string said = mistake(row.command, row.args);
    EXPECT_NE(said.find(row.mentions), std::string::npos)
        << row.command << " should mention " << row.mentions << ", said: " << said;
    EXPECT_NE(said, "") << row.command;
  }
}

}  // namespace
}  // namespace procguard::cli
