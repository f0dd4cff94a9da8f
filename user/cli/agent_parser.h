// SPDX-License-Identifier: Apache-2.0
// What the command lines of all subcommands that ask the agent have in common: --socket, --help,
// examples and statuses.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "cli/options.h"
#include "core/result.h"

namespace procguard::cli {

class AgentParser {
 public:
  AgentParser(const std::string& usage, const std::string& description, const std::string& examples)
      : options_(usage, description, kStatuses + std::string("\n\nExamples:\n") + examples) {
    options_.text(
        socket_, "--socket", "PATH",
        "Socket of the agent (default $PROCGUARD_SOCKET, else /run/procguard/agent.sock)");
  }

  Options& options() { return options_; }

  // `parsed` with its socket or its help text; `check` is called in between with the words that are
  // no options.
  template <typename Parsed, typename Check>
  Result<Parsed> parse(const std::vector<std::string>& args, Parsed& parsed, const Check& check) {
    auto found = options_.parse(args, Words::kAnywhere);
    if (!found) {
      return found.error();
    }
    parsed.help = found->help;
    if (!parsed.help.empty()) {
      return std::move(parsed);
    }
    Checks checks;
    if (socket_.given && socket_.value.empty()) {
      checks.fail("--socket: empty path");
    }
    parsed.socket = socket_.value;
    check(found->words, checks);
    if (checks.error()) {
      return *checks.error();
    }
    return std::move(parsed);
  }

 private:
  static constexpr const char* kStatuses =
      "Exit status: 0 done; 1 no such guard, or nothing matched; 2 used wrongly; 3 no agent is\n"
      "running; 4 not permitted, or not now; 5 not supported by this kernel or agent.";

  Options options_;
  Text socket_;
};

}  // namespace procguard::cli
