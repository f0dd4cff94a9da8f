// SPDX-License-Identifier: Apache-2.0
#include "cli/agent_link.h"

#include <grp.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace procguard::cli {
namespace {

// An agent that takes longer is stuck: better an error than a script that hangs.
constexpr core::Ns kPatience = 30 * core::kSecond;

// The group of the socket; empty for root's, and where it cannot be told: the directory is closed.
std::string socket_group(const std::string& path) {
  struct stat about {};
  if (::stat(path.c_str(), &about) != 0) {
    return "procguard";
  }
  if (about.st_gid == 0) {
    return "";
  }
  std::array<char, 4096> buffer{};
  group entry{};
  group* found = nullptr;
  ::getgrgid_r(about.st_gid, &entry, buffer.data(), buffer.size(), &found);
  return found != nullptr ? entry.gr_name : std::to_string(about.st_gid);
}

}  // namespace

std::string agent_socket(const std::string& given, const char* environment) {
  if (!given.empty()) {
    return given;
  }
  return environment != nullptr && *environment != '\0' ? environment : proto::kDefaultSocket;
}

Error connect_failure(const Error& error, const std::string& path, const std::string& group) {
  switch (error.code()) {
    case ENOENT:
    case ECONNREFUSED:
      return Error("no agent is running at " + path + " (start one: procguard agent)",
                   kAgentNotRunning);
    case EACCES:
    case EPERM:
      return Error("not permitted to ask the agent at " + path +
                       (group.empty() ? ": only root is"
                                      : "; join its group: usermod -aG " + group +
                                            " USER, then log in again"),
                   kAgentNotPermitted);
    case proto::Client::kServedByAnother:
      return Error(error.message(), kAgentNotPermitted);
    case ENAMETOOLONG:
      return Error(error.message(), kAgentUsage);
    default:
      return Error(error.message(), kAgentNotRunning);
  }
}

Error answer_failure(const Error& error) {
  const bool silent = error.code() == EAGAIN || error.code() == EWOULDBLOCK;
  return Error(silent ? "the agent does not answer" : error.message(), kAgentNotRunning);
}

Error refusal_failure(const proto::Message& reply) {
  const proto::Refusal refusal = proto::refusal(reply);
  switch (refusal.status) {
    case proto::Status::kNotFound:
    case proto::Status::kInvalid:
    case proto::Status::kNotPermitted:
    case proto::Status::kUnsupported:
    case proto::Status::kBusy:
      if (reply.one<proto::ErrorBody>()) {
        // No room, too many requests: not now, but not permitted.
        const auto status =
            refusal.status == proto::Status::kBusy ? proto::Status::kNotPermitted : refusal.status;
        return Error(refusal.text.empty() ? "refused by the agent" : refusal.text,
                     static_cast<int>(status));
      }
      break;
    case proto::Status::kOk:
      if (reply.op() != proto::Op::kError) {
        return Error("", kAgentOk);
      }
      break;
  }
  return AgentLink::not_understood(reply);
}

Error AgentLink::not_understood(const proto::Message& message) {
  const proto::Header& header = message.header;
  if (header.version != proto::kVersion || header.abi != PG_ABI) {
    return Error("the agent speaks another version of the protocol (" +
                     std::to_string(header.version) + "." + std::to_string(header.abi) +
                     ", expected " + std::to_string(proto::kVersion) + "." +
                     std::to_string(PG_ABI) + "): restart it, or use its own procguard",
                 kAgentNotRunning);
  }
  return Error("the agent's answer is not understood", kAgentNotRunning);
}

Result<AgentLink> AgentLink::open(const std::string& socket) {
  auto client = proto::Client::connect(socket, kPatience);
  if (!client) {
    return connect_failure(client.error(), socket, socket_group(socket));
  }
  return AgentLink(std::move(client).value());
}

proto::Writer AgentLink::request(proto::Op op, std::uint16_t flags) {
  return {op, client_.request(), flags};
}

Result<proto::Message> AgentLink::ask(proto::Writer& request, std::span<const int> fds) {
  proto::Header sent;
  std::memcpy(&sent, request.bytes().data(), sizeof(sent));
  auto reply = client_.call(request, fds);
  if (!reply) {
    return answer_failure(reply.error());
  }
  if (Error refused = refusal_failure(reply.value()); refused.code() != kAgentOk) {
    return refused;
  }
  if (reply->header.op != sent.op || reply->header.request != sent.request) {
    return not_understood(reply.value());
  }
  return reply;
}

Result<proto::Message> AgentLink::next(proto::Op op) {
  auto message = client_.next();
  if (!message) {
    return answer_failure(message.error());
  }
  if (Error refused = refusal_failure(message.value()); refused.code() != kAgentOk) {
    return refused;
  }
  return message->op() == op ? message : not_understood(message.value());
}

}  // namespace procguard::cli
