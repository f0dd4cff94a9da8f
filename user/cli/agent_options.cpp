// SPDX-License-Identifier: Apache-2.0
#include "cli/agent_options.h"

#include "cli/agent_parser.h"
#include "cli/limit_options.h"
#include "cli/options.h"

namespace procguard::cli {
namespace {

// "text" or "json".
void check_json(const Text& output, Checks& checks, bool& json) {
  checks.choice<bool>(output, "--output", {{"text", false}, {"json", true}}, json);
}

void take_guards(const std::vector<std::string>& words, Checks& checks,
                 std::vector<NamedGuard>& guards) {
  for (const std::string& word : words) {
    auto ref = parse_guard(word);
    if (!ref) {
      return checks.fail(ref.error().message());
    }
    guards.push_back({.word = word, .ref = ref.value()});
  }
}

void take_guard(const std::vector<std::string>& words, Checks& checks, NamedGuard& guard) {
  if (words.size() != 1) {
    return checks.fail(words.empty() ? "no guard (expected g12, 12 or a name)"
                                     : "unexpected '" + words[1] + "' (expected one guard)");
  }
  std::vector<NamedGuard> guards;
  take_guards(words, checks, guards);
  if (!guards.empty()) {
    guard = guards[0];
  }
}

void no_words(const std::vector<std::string>& words, Checks& checks) {
  if (!words.empty()) {
    checks.fail("unexpected '" + words[0] + "' (expected options only)");
  }
}

struct GuardsHelp {
  const char* command;
  const char* usage;
  const char* description;
  const char* examples;
};

constexpr GuardsHelp kGuardsHelp[] = {
    {"pause", "pause [OPTIONS] GUARD...",
     "Stops the clocks of guards: until they are resumed they take no step, and what passes and "
     "is\n"
     "used meanwhile does not count.",
     "  procguard pause nightly        while somebody looks at it with a debugger\n"
     "  procguard pause g12 g13"},
    {"resume", "resume [OPTIONS] GUARD...", "Lets paused guards go on where they were.",
     "  procguard resume nightly"},
    {"release", "release [OPTIONS] GUARD...",
     "Ends guards. Their targets are left alone and go on.",
     "  procguard release g12\n"
     "  procguard release nightly weekly"},
    {"progress", "progress [OPTIONS] [GUARD]",
     "Tells a guard that the work goes on: its timeout starts anew. Without GUARD it is the one "
     "that\n"
     "the environment names in PROCGUARD_GUARD: inside procguard run, run's.",
     "  procguard progress nightly\n"
     "  for f in *.gz; do gunzip \"$f\" && procguard progress; done"},
};

const GuardsHelp& guards_help(const std::string& command) {
  for (const GuardsHelp& help : kGuardsHelp) {
    if (command == help.command) {
      return help;
    }
  }
  return kGuardsHelp[0];
}

}  // namespace

Result<ListOptions> parse_list_options(const std::vector<std::string>& args) {
  AgentParser parser("list [OPTIONS]",
                     "Lists the guards of the agent: a line for each limit, with what is used of "
                     "it, the time until\nthe next step, and where on the ladder it is.",
                     "  procguard list\n"
                     "  procguard list -o wide --all   also what has ended\n"
                     "  procguard list --watch         anew every second\n"
                     "  procguard list -o json | jq '.guards[].name'");
  ListOptions list;
  Text output;
  parser.options().text(output, "-o,--output", "FORM", "table (default), wide or json");
  parser.options().flag(list.watch, "-w,--watch", "Print it anew every second");
  parser.options().flag(list.all, "-a,--all", "Guards that have ended, too");
  return parser.parse(args, list, [&](const auto& words, Checks& checks) {
    no_words(words, checks);
    checks.choice<ListOutput>(
        output, "--output",
        {{"table", ListOutput::kTable}, {"wide", ListOutput::kWide}, {"json", ListOutput::kJson}},
        list.output);
  });
}

Result<ShowOptions> parse_show_options(const std::vector<std::string>& args) {
  AgentParser parser("show [OPTIONS] GUARD",
                     "Shows all that is known of a guard, its target and the target's threads.",
                     "  procguard show g12\n"
                     "  procguard show nightly -o json | jq '.guard.limits'");
  ShowOptions show;
  Text output;
  parser.options().text(output, "-o,--output", "FORM", "text (default) or json");
  return parser.parse(args, show, [&](const auto& words, Checks& checks) {
    take_guard(words, checks, show.guard);
    check_json(output, checks, show.json);
  });
}

Result<SetOptions> parse_set_options(const std::vector<std::string>& args) {
  AgentParser parser("set [OPTIONS] GUARD",
                     "Changes limits of a guard. Those that are not given stay as they are.\n"
                     "DUR: 10, 1.5m, 2h, 300ms, 50us (seconds without a unit). SIZE: 512K, 64M, "
                     "2G, 1T (powers of\n1024; the unit is required).",
                     "  procguard set g12 -t 2h          two hours since it was attached\n"
                     "  procguard set nightly -m 4G --cpu 30m");
  SetOptions set;
  LimitOptions limits;
  limits.add_to(parser.options(), "the guard began");
  return parser.parse(args, set, [&](const auto& words, Checks& checks) {
    take_guard(words, checks, set.guard);
    limits.check(checks, set.limits);
  });
}

Result<GuardsOptions> parse_guards_options(const std::string& command,
                                           const std::vector<std::string>& args) {
  const GuardsHelp& help = guards_help(command);
  AgentParser parser(help.usage, help.description, help.examples);
  GuardsOptions guards;
  return parser.parse(args, guards, [&](const auto& words, Checks& checks) {
    const bool progress = command == "progress";
    if (!progress && words.empty()) {
      checks.fail("no guard (expected g12, 12 or a name)");
    } else if (progress && words.size() > 1) {
      checks.fail("unexpected '" + words[1] + "' (expected at most one guard)");
    }
    take_guards(words, checks, guards.guards);
  });
}

Result<EventsOptions> parse_events_options(const std::vector<std::string>& args,
                                           std::uint64_t now_real_ns) {
  AgentParser parser(
      "events [OPTIONS]",
      "Prints what happened to guards, the oldest first.\n"
      "WHEN: a duration ago as 10m, the number of an event as @17 (those after it), or a time in "
      "UTC "
      "as\n2026-01-31T12:00:00Z. EXPR: key=value[,key=value] over event, guard, name, resource, "
      "scope,\nresult and signal; all keys must hold, of the same key any value will do.",
      "  procguard events --since 10m\n"
      "  procguard events --follow -o json          one object a line, from now on\n"
      "  procguard events --follow --since @17      as they happen, and all after event 17\n"
      "  procguard events --filter event=guard.tripped,resource=memory\n"
      "  procguard events --filter signal=KILL,guard=g12");
  EventsOptions events;
  Text output, since, filter;
  parser.options().flag(events.follow, "-f,--follow",
                        "Go on as they happen; without --since, from now on");
  parser.options().text(since, "--since", "WHEN", "Those since then (default: all that are kept)");
  parser.options().text(filter, "--filter", "EXPR", "Those alone");
  parser.options().text(output, "-o,--output", "FORM", "text (default) or json");
  return parser.parse(args, events, [&](const auto& words, Checks& checks) {
    no_words(words, checks);
    check_json(output, checks, events.json);
    if (since.given) {
      const auto parsed = parse_when(since.value, now_real_ns);
      parsed ? void(events.since = parsed.value())
             : checks.fail("--since: " + parsed.error().message());
    } else if (events.follow) {
      events.since.real_ns = now_real_ns;
    }
    if (filter.given) {
      auto parsed = EventFilter::parse(filter.value);
      parsed ? void(events.filter = parsed.value())
             : checks.fail("--filter: " + parsed.error().message());
    }
  });
}

Result<StatusOptions> parse_status_options(const std::vector<std::string>& args) {
  AgentParser parser("status [OPTIONS]", "Says how the agent is.",
                     "  procguard status\n"
                     "  procguard status -o json | jq .events_lost");
  StatusOptions status;
  Text output;
  parser.options().text(output, "-o,--output", "FORM", "text (default) or json");
  return parser.parse(args, status, [&](const auto& words, Checks& checks) {
    no_words(words, checks);
    check_json(output, checks, status.json);
  });
}

}  // namespace procguard::cli
