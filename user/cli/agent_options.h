// SPDX-License-Identifier: Apache-2.0
// The command lines of the subcommands that ask the agent: argv in, checked options out. Pure.
// `args`: what follows the name of the subcommand. An error says what was given and what was
// expected.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/event_filter.h"
#include "cli/guard_words.h"
#include "core/guard.h"
#include "core/result.h"
#include "proto/messages.h"

namespace procguard::cli {

struct AgentOptions {
  std::string socket;  // empty: not given
  std::string help;    // not empty: print this and do nothing else
};

// A guard as the user called it.
struct NamedGuard {
  std::string word;
  proto::RefBody ref;
};

enum class ListOutput { kTable, kWide, kJson };

struct ListOptions : AgentOptions {
  ListOutput output = ListOutput::kTable;
  bool watch = false;
  bool all = false;
};
Result<ListOptions> parse_list_options(const std::vector<std::string>& args);

struct ShowOptions : AgentOptions {
  NamedGuard guard;
  bool json = false;
};
Result<ShowOptions> parse_show_options(const std::vector<std::string>& args);

struct SetOptions : AgentOptions {
  NamedGuard guard;
  core::GuardSpec limits;
};
Result<SetOptions> parse_set_options(const std::vector<std::string>& args);

struct GuardsOptions : AgentOptions {
  std::vector<NamedGuard> guards;
};
// pause, resume, release: at least one guard; progress: at most one.
Result<GuardsOptions> parse_guards_options(const std::string& command,
                                           const std::vector<std::string>& args);

struct EventsOptions : AgentOptions {
  bool follow = false;
  bool json = false;
  Since since;
  EventFilter filter;
};
// `now_real_ns`: what a duration ago and "from now on" (--follow without --since) count from.
Result<EventsOptions> parse_events_options(const std::vector<std::string>& args,
                                           std::uint64_t now_real_ns);

struct StatusOptions : AgentOptions {
  bool json = false;
};
Result<StatusOptions> parse_status_options(const std::vector<std::string>& args);

}  // namespace procguard::cli
