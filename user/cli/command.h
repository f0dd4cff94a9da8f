// SPDX-License-Identifier: Apache-2.0
// What the subcommands that ask the agent do alike: usage, help, connect, then their own work.
#pragma once

#include <cstdlib>
#include <string>

#include "cli/agent_link.h"
#include "cli/console.h"
#include "core/result.h"

namespace procguard::cli {

// `work(options, link)` returns the status, or an Error with it as its code.
template <typename Options, typename Work>
int with_agent(const char* command, const Result<Options>& options, const Work& work) {
  if (!options) {
    return fail_usage(command, options.error());
  }
  if (!options->help.empty()) {
    return print_out(command, options->help);
  }
  auto link = AgentLink::open(agent_socket(options->socket, std::getenv("PROCGUARD_SOCKET")));
  if (!link) {
    return fail(command, link.error());
  }
  const Result<int> done = work(options.value(), link.value());
  return done ? done.value() : fail(command, done.error());
}

}  // namespace procguard::cli
