// SPDX-License-Identifier: Apache-2.0
// What the agent is told: the file, the command line, and which of them wins.
#include "agent/config.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <string>
#include <vector>

#include "core/clock.h"
#include "tests/support/temp_tree.h"

namespace procguard::agent {
namespace {

using Words = std::vector<std::string>;

TEST(AgentConfig, AWholeFile) {
  const test::TempTree tree{{"a.toml",
                             "# the agent of this host\n"
                             "[agent]\n"
                             "socket_group = \"ops\"\n"
                             "log = \"json\"\n"
                             "max_guards = 100\n"
                             "max_watches = 200\n"
                             "max_processes = 300\n"
                             "max_threads = 4_194_304\n"
                             "max_guards_per_uid = 5\n"
                             "[ceiling]\n"
                             "timeout = \"24h\"\n"
                             "cpu = \"90m\"\n"
                             "memory = \"8G\"\n"
                             "memory_growth = \"512MiB\"\n"
                             "scopes = [\"process\", \"tree\"]\n"}};
  Config config;
  const auto read = read_config(tree.at("a.toml"), config);
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_EQ(config.file, tree.at("a.toml"));
  EXPECT_EQ(config.socket_group, "ops");
  EXPECT_EQ(config.log, LogFormat::kJson);
  EXPECT_EQ(config.max_guards, 100U);
  EXPECT_EQ(config.max_watches, 200U);
  EXPECT_EQ(config.max_processes, 300U);
  EXPECT_EQ(config.max_threads, 4194304U);
  EXPECT_EQ(config.ceiling.max_guards_per_uid, 5U);
  EXPECT_EQ(config.ceiling.limit[PG_TIMEOUT], 24 * 3600 * core::kSecond);
  EXPECT_EQ(config.ceiling.limit[PG_CPU], 90 * 60 * core::kSecond);
  EXPECT_EQ(config.ceiling.limit[PG_MEMORY], 8ULL << 30);
  EXPECT_EQ(config.ceiling.limit[PG_MEMORY_GROWTH], 512ULL << 20);
  EXPECT_EQ(config.ceiling.scopes, 1U << PG_SCOPE_PROCESS | 1U << PG_SCOPE_TREE);
}

TEST(AgentConfig, WhatAFileLeavesOutStays) {
  const Config defaults;
  for (const char* text : {"", "[agent]\n", "[ceiling]\n[agent]\nlog = \"text\"\n"}) {
    const test::TempTree tree{{"a.toml", text}};
    Config config;
    ASSERT_TRUE(read_config(tree.at("a.toml"), config)) << text;
    EXPECT_EQ(config.socket_group, defaults.socket_group);
    EXPECT_EQ(config.log, defaults.log);
    EXPECT_EQ(config.max_guards, defaults.max_guards);
    EXPECT_EQ(config.ceiling.limit[PG_MEMORY], 0U);
    EXPECT_EQ(config.ceiling.scopes, defaults.ceiling.scopes);
  }
}

struct BadRow {
  const char* description;
  std::string text;
  const char* line;      // ":2: "
  const char* key;       // in the message
  const char* expected;  // in the message
};

TEST(AgentConfig, WhatIsRefusedAndWhere) {
  const std::string high(200, '9');
  const BadRow rows[] = {
      {"no TOML", "[agent]\nlog = \n", ":2: ", "", ""},
      {"zero bytes", std::string("[agent]\n\0\0", 10), ":2: ", "", ""},
      {"nested without end", std::string(100000, '['), ":1: ", "", ""},
      {"a key twice", "[agent]\nlog='text'\nlog='text'\n", ":3: ", "log", ""},
      {"a key outside", "log = \"text\"\n", ":1: ", "log", "[agent], [ceiling]"},
      {"another table", "\n[agents]\n", ":2: ", "agents", "[agent], [ceiling]"},
      {"no table", "agent = 3\n", ":1: ", "agent", "a table"},
      {"tables in a list", "[[agent]]\n", ":1: ", "agent", "a table"},
      {"an unknown key", "[agent]\n\nmax_guard = 1\n", ":3: ", "agent.max_guard: unknown",
       "max_guards,"},
      {"a key of the other table", "[agent]\ntimeout = \"1h\"\n", ":2: ", "agent.timeout",
       "socket_group"},
      {"a key that would colour the screen", "[agent]\n\"\\u001b[2J\" = 1\n",
       ":2: ", "agent.\\x1b[2J", "log"},
      {"a number as text", "[agent]\nmax_guards = \"many\"\n", ":2: ", "agent.max_guards",
       "from 1 to 4194304"},
      {"a fraction", "[agent]\nmax_guards = 1.5\n", ":2: ", "agent.max_guards", "a whole number"},
      {"zero", "[agent]\nmax_guards = 0\n", ":2: ", "not possible: 0", "from 1"},
      {"below zero", "[agent]\nmax_threads = -1\n", ":2: ", "not possible: -1", "from 1"},
      {"too many", "[agent]\nmax_watches = 4194305\n", ":2: ", "4194305", "to 4194304"},
      {"no number of 64 bits", "[agent]\nmax_watches = " + high + "\n", ":2: ", "", ""},
      {"a log of another kind", "[agent]\nlog = \"xml\"\n", ":2: ", "'xml'", "text, json or"},
      {"a log that is a number", "[agent]\nlog = 1\n", ":2: ", "agent.log", "text, json or"},
      {"no group", "[agent]\nsocket_group = \"\"\n", ":2: ", "socket_group", "name of a group"},
      {"a group with a line end", "[agent]\nsocket_group = \"a\\nb\"\n", ":2: ", "'a\\x0ab'",
       "name of a group"},
      {"a duration as a number", "[ceiling]\ntimeout = 30\n", ":2: ", "ceiling.timeout", "\"24h\""},
      {"no duration", "[ceiling]\ncpu = \"soon\"\n", ":2: ", "'soon'", "\"24h\""},
      {"a duration of nothing", "[ceiling]\ncpu = \"0s\"\n", ":2: ", "'0s'", "above 0"},
      {"a size without a unit", "[ceiling]\nmemory = \"100\"\n", ":2: ", "'100'", "\"8G\""},
      {"a size of nothing", "[ceiling]\nmemory_growth = \"0G\"\n", ":2: ", "'0G'", "above 0"},
      {"a scope alone", "[ceiling]\nscopes = \"tree\"\n", ":2: ", "ceiling.scopes", "a list of"},
      {"no scopes", "[ceiling]\nscopes = []\n", ":2: ", "ceiling.scopes", "a list of"},
      {"an unknown scope", "[ceiling]\nscopes = [\"tree\", \"pod\"]\n", ":2: ", "ceiling.scopes",
       "\"cgroup\""},
      {"a scope that is a number", "[ceiling]\nscopes = [3]\n", ":2: ", "ceiling.scopes",
       "a list of"},
  };
  for (const BadRow& row : rows) {
    const test::TempTree tree{{"a.toml", row.text}};
    Config config;
    const auto read = read_config(tree.at("a.toml"), config);
    ASSERT_FALSE(read) << row.description;
    const std::string& message = read.error().message();
    EXPECT_TRUE(message.starts_with(tree.at("a.toml") + row.line))
        << row.description << ": " << message;
    EXPECT_NE(message.find(row.key), std::string::npos) << row.description << ": " << message;
    EXPECT_NE(message.find(row.expected), std::string::npos) << row.description << ": " << message;
    EXPECT_EQ(config.file, "") << "nothing is set: " << row.description;
  }
}

TEST(AgentConfig, AFileThatCannotBeRead) {
  const test::TempTree tree;
  Config config;
  const auto missing = read_config(tree.at("a.toml"), config);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code(), ENOENT);
  EXPECT_NE(missing.error().message().find(tree.at("a.toml")), std::string::npos);
  EXPECT_FALSE(read_config(tree.path(), config)) << "a directory";
}

TEST(AgentOptions, All) {
  const test::TempTree tree{{"a.toml", "[agent]\nlog = \"json\"\nsocket_group = \"file\"\n"}};
  const auto request = parse_agent_options(
      {"--config", tree.at("a.toml"), "--socket", "/tmp/x.sock", "--pin-dir=/sys/fs/bpf/x",
       "--socket-group", "line", "--log", "text", "--teardown"});
  ASSERT_TRUE(request) << request.error().message();
  EXPECT_EQ(request->config.file, tree.at("a.toml"));
  EXPECT_EQ(request->config.socket, "/tmp/x.sock");
  EXPECT_EQ(request->config.pin_dir, "/sys/fs/bpf/x");
  EXPECT_EQ(request->config.socket_group, "line") << "the command line wins";
  EXPECT_EQ(request->config.log, LogFormat::kText) << "also with what is the default";
  EXPECT_TRUE(request->teardown);
  EXPECT_EQ(request->help, "");
}

TEST(AgentOptions, TheFileCountsWhereTheLineSaysNothing) {
  const test::TempTree tree{{"a.toml", "[agent]\nlog = \"journal\"\nsocket_group = \"file\"\n"}};
  const auto request = parse_agent_options({"--config=" + tree.at("a.toml")});
  ASSERT_TRUE(request) << request.error().message();
  EXPECT_EQ(request->config.log, LogFormat::kJournal);
  EXPECT_EQ(request->config.socket_group, "file");
  EXPECT_EQ(request->config.socket, proto::kDefaultSocket);
  EXPECT_FALSE(request->teardown);
}

TEST(AgentOptions, Help) {
  for (const char* word : {"-h", "--help"}) {
    const auto request = parse_agent_options({word});
    ASSERT_TRUE(request);
    for (const char* option : {"--config", "--socket", "--pin-dir", "--socket-group", "--log",
                               "--teardown", "--help", "Examples"}) {
      EXPECT_NE(request->help.find(option), std::string::npos) << option;
    }
  }
}

TEST(AgentOptions, WhatIsRefused) {
  struct Row {
    Words args;
    const char* message;
  };
  const Row rows[] = {
      {{"--nothing"}, "--nothing"},
      {{"extra"}, "extra"},
      {{"--socket"}, "--socket"},
      {{"--socket", ""}, "--socket: not possible: '' (expected a path"},
      {{"--socket", std::string(108, 'x')}, "at most 107 bytes"},
      {{"--pin-dir", "bpf"}, "--pin-dir: not possible: 'bpf' (expected an absolute path"},
      {{"--pin-dir", "/" + std::string(127, 'x')}, "at most 127 bytes"},
      {{"--socket-group", "a b"}, "--socket-group: not possible: 'a b'"},
      {{"--log", "xml"}, "--log: not possible: 'xml' (expected text, json or journal)"},
      {{"--config", ""}, "--config: empty path"},
      {{"--config", "/nowhere/a.toml"}, "/nowhere/a.toml"},
  };
  for (const Row& row : rows) {
    const auto request = parse_agent_options(row.args);
    ASSERT_FALSE(request) << row.args[0];
    EXPECT_NE(request.error().message().find(row.message), std::string::npos)
        << request.error().message();
  }
}

}  // namespace
}  // namespace procguard::agent
