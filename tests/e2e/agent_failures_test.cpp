// SPDX-License-Identifier: Apache-2.0
// What goes wrong between a subcommand and the agent: one line that says what, and the status that
// says which kind.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "tests/e2e/ask_agent.h"

namespace procguard::test {
namespace {

const std::vector<Strings> kAll = {{"list"},
                                   {"show", "g1"},
                                   {"set", "g1", "-t", "1"},
                                   {"pause", "g1"},
                                   {"resume", "g1"},
                                   {"release", "g1"},
                                   {"progress", "g1"},
                                   {"events"},
                                   {"status"},
                                   {"attach", "--pid", "1", "-t", "1"}};

void expect_error(const Outcome& outcome, const Strings& words, int status,
                  const std::string& mentions) {
  EXPECT_EQ(outcome.status(), status) << outcome.describe();
  EXPECT_EQ(outcome.out, "") << outcome.describe();
  EXPECT_EQ(outcome.err.rfind("procguard: " + words[0] + ": ", 0), 0U) << outcome.describe();
  EXPECT_NE(outcome.err.find(mentions), std::string::npos) << outcome.describe();
  EXPECT_EQ(line_count(outcome.err), 1) << outcome.describe();
}

TEST(AgentFailures, NoAgentIsRunning) {
  TempDir dir;
  for (Strings words : kAll) {
    words.insert(words.begin() + 1, {"--socket", dir / "no.sock"});
    Strings argv = {procguard_binary()};
    argv.insert(argv.end(), words.begin(), words.end());
    expect_error(run({.argv = argv}), words, 3, "no agent is running at " + (dir / "no.sock"));
  }
}

TEST(AgentFailures, TheAgentRefuses) {
  struct Row {
    proto::Status status;
    int exit;
  };
  const Row rows[] = {{proto::Status::kNotFound, 1},
                      {proto::Status::kInvalid, 2},
                      {proto::Status::kNotPermitted, 4},
                      {proto::Status::kUnsupported, 5},
                      {proto::Status::kBusy, 4}};
  for (const Row& row : rows) {
    FakeAgent agent([&](const Asked& asked) -> Records {
      return {refusal_of(asked, row.status, "because\n\x1b[2J")};
    });
    for (const Strings& words : kAll) {
      expect_error(ask(agent, words), words, row.exit, "because\\x0a\\x1b[2J");
    }
  }
}

TEST(AgentFailures, TheAgentAnswersWrongly) {
  struct Row {
    const char* name;
    FakeAgent::Answer answer;
    const char* mentions;
  };
  const Row rows[] = {
      {"ends", [](const Asked&) { return Records{}; }, "closed"},
      {"noise", [](const Asked&) { return Records{proto::Bytes(100, std::byte{0x5a})}; },
       "not understood"},
      {"short", [](const Asked&) { return Records{proto::Bytes(3)}; }, "not understood"},
      {"other bodies",
       [](const Asked& asked) {
         return Records{answer_to<proto::LevelBody>(asked, {{}, {}})};
       },
       "not understood"},
      {"other op",
       [](const Asked& asked) {
         return Records{answer_to<proto::GuardBody>(asked, {{}}, 0, proto::Op::kLevel)};
       },
       "not understood"},
      {"an error that is none",
       [](const Asked& asked) { return Records{refusal_of(asked, proto::Status::kOk, "fine")}; },
       "not understood"},
  };
  for (const Row& row : rows) {
    FakeAgent agent(row.answer);
    for (const Strings& words : kAll) {
      SCOPED_TRACE(row.name);
      expect_error(ask(agent, words), words, 3, row.mentions);
    }
  }
}

TEST(AgentFailures, NotPermittedSaysWhichGroup) {
  FakeAgent agent(guard_again);
  ASSERT_EQ(::geteuid(), 0U) << "this test gives a socket to a group";
  ASSERT_EQ(::chown(agent.socket().c_str(), 0, 1), 0);  // daemon
  ASSERT_EQ(::chmod(agent.socket().substr(0, agent.socket().rfind('/')).c_str(), 0755), 0);
  TempDir dir;  // nobody may not be able to reach the build
  Command command = command_of(agent, {"list"});
  command.argv[0] = dir / "procguard";
  std::filesystem::copy_file(procguard_binary(), command.argv[0]);
  command.before_exec = [] {
    if (::setgid(65534) != 0 || ::setuid(65534) != 0) {
      ::_exit(99);
    }
  };
  expect_error(run(command), {"list"}, 4, "usermod -aG daemon");
}

TEST(AgentFailures, OutputThatCannotBeWritten) {
  FakeAgent agent([](const Asked& asked) -> Records {
    return {answer_to<proto::RowBody>(asked, {}, proto::kEnd)};
  });
  Command command = command_of(agent, {});
  command.argv = {"sh", "-c", procguard_binary() + " list > /dev/full"};
  const Outcome outcome = run(command);
  EXPECT_EQ(outcome.status(), 1) << outcome.describe();
  EXPECT_NE(outcome.err.find("standard output"), std::string::npos) << outcome.describe();
}

TEST(AgentFailures, MistakesAreStatusTwoAndOneLine) {
  const std::vector<Strings> rows = {{"list", "-o", "xml"},  {"show"},
                                     {"set", "g1"},          {"pause"},
                                     {"resume", "a b"},      {"release", "--all"},
                                     {"progress", "a", "b"}, {"events", "--since", "soon"},
                                     {"status", "now"},      {"attach", "--pid", "1"},
                                     {"list", "--od\nd"}};
  for (const Strings& words : rows) {
    Strings argv = {procguard_binary()};
    argv.insert(argv.end(), words.begin(), words.end());
    expect_error(run({.argv = argv}), words, 2, "");
  }
}

TEST(AgentFailures, HelpOfEachAndOfAll) {
  const std::string all = run({.argv = {procguard_binary(), "--help"}}).out;
  for (const Strings& words : kAll) {
    EXPECT_NE(all.find("\n  " + words[0] + " "), std::string::npos) << words[0];
    const Outcome outcome = run({.argv = {procguard_binary(), words[0], "--help"}});
    EXPECT_EQ(outcome.status(), 0) << outcome.describe();
    EXPECT_EQ(outcome.err, "");
    EXPECT_EQ(outcome.out.rfind("Usage: procguard " + words[0], 0), 0U) << outcome.out;
    EXPECT_NE(outcome.out.find("Examples:\n  procguard " + words[0]), std::string::npos);
  }
}

}  // namespace
}  // namespace procguard::test
