// SPDX-License-Identifier: Apache-2.0
// What goes wrong with the agent, as exit statuses and words.
#include "cli/agent_link.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "cli/console.h"

namespace procguard::cli {
namespace {

TEST(AgentLink, WhichSocket) {
  EXPECT_EQ(agent_socket("/a", "/b"), "/a");
  EXPECT_EQ(agent_socket("", "/b"), "/b");
  EXPECT_EQ(agent_socket("", ""), proto::kDefaultSocket);
  EXPECT_EQ(agent_socket("", nullptr), proto::kDefaultSocket);
}

TEST(AgentLink, ConnectionsThatFail) {
  struct Row {
    int error;
    const char* group;
    int status;
    const char* mentions;
  };
  const Row rows[] = {
      {ENOENT, "", kAgentNotRunning, "no agent is running at /s"},
      {ECONNREFUSED, "", kAgentNotRunning, "no agent is running at /s"},
      {EACCES, "procguard", kAgentNotPermitted, "usermod -aG procguard"},
      {EACCES, "", kAgentNotPermitted, "only root"},
      {EPERM, "ops", kAgentNotPermitted, "ops"},
      {proto::Client::kServedByAnother, "", kAgentNotPermitted, "said"},
      {ENAMETOOLONG, "", kAgentUsage, "said"},
      {EAGAIN, "", kAgentNotRunning, "said"},
  };
  for (const Row& row : rows) {
    const Error failure = connect_failure(Error("said", row.error), "/s", row.group);
    EXPECT_EQ(failure.code(), row.status) << row.error;
    EXPECT_NE(failure.message().find(row.mentions), std::string::npos) << failure.message();
  }
}

TEST(AgentLink, LostConnections) {
  EXPECT_EQ(answer_failure(Error("gone", ECONNRESET)).code(), kAgentNotRunning);
  EXPECT_EQ(answer_failure(Error("odd", EPROTO)).message(), "odd");
  EXPECT_EQ(answer_failure(Error("", EAGAIN)).message(), "the agent does not answer");
}

proto::Bytes error_record(std::uint32_t status, const char* text) {
  proto::ErrorBody body;
  body.status = status;
  proto::put_text(body.text, text);
  proto::Writer writer(proto::Op::kError, 1);
  writer.add(body);
  return writer.bytes();
}

TEST(AgentLink, Refusals) {
  struct Row {
    std::uint32_t status;
    int exit;
  };
  const Row rows[] = {
      {0, kAgentNotRunning},   {1, kAgentNone},         {2, kAgentUsage},
      {3, kAgentNotRunning},   {4, kAgentNotPermitted}, {5, kAgentUnsupported},
      {6, kAgentNotPermitted}, {7, kAgentNotRunning},   {0xffffffff, kAgentNotRunning}};
  for (const Row& row : rows) {
    const proto::Bytes record = error_record(row.status, "why");
    const Error failure = refusal_failure(*proto::decode(record));
    EXPECT_EQ(failure.code(), row.exit) << row.status;
    EXPECT_EQ(failure.message() == "why", row.exit != kAgentNotRunning) << failure.message();
  }
}

TEST(AgentLink, OddAnswers) {
  proto::Writer plain(proto::Op::kSet, 1);
  EXPECT_EQ(refusal_failure(*proto::decode(plain.bytes())).code(), kAgentOk);
  proto::Writer empty(proto::Op::kError, 1);
  EXPECT_EQ(refusal_failure(*proto::decode(empty.bytes())).code(), kAgentNotRunning);
  proto::Bytes other = plain.bytes();
  proto::Message message = *proto::decode(other);
  message.header.abi = PG_ABI + 1;
  EXPECT_NE(AgentLink::not_understood(message).message().find("another version"),
            std::string::npos);
  message.header.abi = PG_ABI;
  EXPECT_EQ(AgentLink::not_understood(message).message(), "the agent's answer is not understood");
  EXPECT_EQ(AgentLink::body<proto::GuardBody>(message).error().code(), kAgentNotRunning);
}

TEST(Console, OneLineWhateverStandsInIt) {
  EXPECT_EQ(one_line("a\nb\x1b[2J\t\x7f\xff\\x"), "a\\x0ab\\x1b[2J\\x09\\x7f\\xff\\x");
}

}  // namespace
}  // namespace procguard::cli
