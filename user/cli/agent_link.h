// SPDX-License-Identifier: Apache-2.0
// AgentLink: the connection of a subcommand to the agent. Its errors are what the user is told, and
// their codes are exit statuses. One thread.
#pragma once

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/result.h"
#include "proto/client.h"

namespace procguard::cli {

enum AgentExit : int {
  kAgentOk = 0,
  kAgentNone = 1,  // no such guard, or nothing matched; also: the output could not be written
  kAgentUsage = 2,
  kAgentNotRunning = 3,  // or the connection was lost, or its answer is not understood
  kAgentNotPermitted = 4,
  kAgentUnsupported = 5,
};

// `given`, else the environment's, else the default.
std::string agent_socket(const std::string& given, const char* environment);

// Pure: what a connection that failed, or was lost, with this errno is to the user. `group`: who
// may connect; empty: nobody but root.
Error connect_failure(const Error& error, const std::string& path, const std::string& group);
Error answer_failure(const Error& error);
// The agent's refusal; kAgentOk: the reply is none.
Error refusal_failure(const proto::Message& reply);

class AgentLink {
 public:
  static Result<AgentLink> open(const std::string& socket);

  // A request to be filled and asked.
  proto::Writer request(proto::Op op, std::uint16_t flags = 0);
  // The first record of the reply, which is of the same op. The message is good until the next
  // call.
  Result<proto::Message> ask(proto::Writer& request, std::span<const int> fds = {});
  // One more record, of this op.
  Result<proto::Message> next(proto::Op op);
  int fd() const { return client_.fd(); }

  // The bodies of a message, or what is wrong with it.
  template <typename Body>
  static Result<std::vector<Body>> bodies(const proto::Message& message) {
    auto all = message.as<Body>();
    return all ? Result<std::vector<Body>>(std::move(*all)) : not_understood(message);
  }
  template <typename Body>
  static Result<Body> body(const proto::Message& message) {
    auto one = message.one<Body>();
    return one ? Result<Body>(*one) : not_understood(message);
  }
  static Error not_understood(const proto::Message& message);

 private:
  explicit AgentLink(proto::Client client) : client_(std::move(client)) {}

  proto::Client client_;
};

}  // namespace procguard::cli
