// SPDX-License-Identifier: Apache-2.0
#include "cli/guarding.h"

#include <cerrno>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "cli/agent_guarding.h"
#include "cli/agent_link.h"
#include "cli/local_guarding.h"
#include "proto/codec.h"

namespace procguard::cli {
namespace {

bool nobody_there(const Error& error) {
  return error.code() == ENOENT || error.code() == ECONNREFUSED;
}

// What the options say that only an agent can do; nullptr: nothing.
const char* needs_agent(const RunOptions& options) {
  if (options.agent == AgentUse::kRequired) {
    return "--source agent";
  }
  return (options.guard.flags & PG_GUARD_FAILSAFE) != 0 ? "--failsafe kernel" : nullptr;
}

}  // namespace

std::string guard_name(const pg_guard& guard) {
  const std::string name = proto::get_text(guard.name);
  return name.empty() ? "g" + std::to_string(guard.id) : name;
}

Result<ChosenGuarding> choose_guarding(const GuardingHost& host) {
  const RunOptions& options = host.options;
  if (options.agent == AgentUse::kNever) {
    return choose_local_guarding(host);
  }
  const std::string path = agent_socket(options.socket, std::getenv("PROCGUARD_SOCKET"));
  auto agent = AgentGuarding::connect(path, host);
  if (agent) {
    return ChosenGuarding{std::move(agent).value(), {}, {}};
  }
  const Error& error = agent.error();
  if (const char* option = needs_agent(options)) {
    return nobody_there(error)
               ? Error(std::string(option) + " needs an agent, and none is running at " + path +
                           " (expected: procguard agent)",
                       error.code())
               : error.in(option);
  }
  auto chosen = choose_local_guarding(host);
  if (chosen && !nobody_there(error)) {
    chosen->no_agent_because = error.message();
  }
  return chosen;
}

Result<ChosenGuarding> choose_local_guarding(const GuardingHost& host) {
  ChosenGuarding chosen;
  auto local = LocalGuarding::create(host, chosen.weaker_because);
  if (!local) {
    return local.error();
  }
  chosen.guarding = std::move(local).value();
  return chosen;
}

bool may_do_without_agent(const RunOptions& options, const Guarding& guarding,
                          const Error& refusal) {
  return std::string_view(guarding.source()) == "agent" && refusal.code() == kAgentUnavailable &&
         needs_agent(options) == nullptr;
}

}  // namespace procguard::cli
