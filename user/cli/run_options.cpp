// SPDX-License-Identifier: Apache-2.0
#include "cli/run_options.h"

#include <tuple>
#include <utility>

#include "cli/guard_words.h"
#include "cli/labels.h"
#include "cli/limit_options.h"
#include "cli/options.h"

namespace procguard::cli {
namespace {

constexpr const char* kDescription =
    "Runs COMMAND inside limits of time and memory and ends it, with all that it started, when it\n"
    "goes beyond them.\n"
    "DUR: 10, 1.5m, 2h, 300ms, 50us (seconds without a unit). SIZE: 512K, 64M, 2G, 1T (powers of\n"
    "1024; the unit is required).";

constexpr const char* kFooter =
    "Exit status: the command's own (128+N if signal N ended it); 124 if a limit ended it, 137 if\n"
    "that took SIGKILL, 125 if procguard itself failed, 126 if COMMAND cannot be executed, 127 if "
    "it\n"
    "cannot be found.\n"
    "\n"
    "Examples:\n"
    "  procguard run -t 10m -m 2G -- make -j8       time and memory of the whole tree\n"
    "  procguard run -t 30s --kill -- ./job         INT, then TERM, then KILL\n"
    "  procguard run --escalate INT:5s,TERM:10s,KILL -t 1h -- ./job\n"
    "  procguard run --cpu 5m --report r.json -- ./job\n"
    "  procguard run -m 1G --dry-run -v -- ./job    only say what would be done";

struct Parser {
  Options options{"run [OPTIONS] [--] COMMAND [ARG]...", kDescription, kFooter};
  LimitOptions limits;
  LadderOptions ladder;
  Text scope, cgroup, leftovers, source, name, report;
  Text socket, failsafe;
  std::vector<std::string> labels;
  bool no_agent = false;
  bool dry_run = false, quiet = false, verbose = false;
  bool preserve = false, distinct = false;

  Parser();
};

Parser::Parser() {
  limits.add_to(options, "COMMAND began");
  ladder.add_to(options);
  options.text(scope, "--scope", "SCOPE", "What is guarded: process, tree (default) or cgroup");
  options.text(cgroup, "--cgroup", "PATH",
               "Start COMMAND in this v2 cgroup and guard all that is in it");
  options.text(leftovers, "--leftovers", "WHAT",
               "Members that outlive COMMAND: leave (default), wait for, or kill them");
  options.text(source, "--source", "SOURCE",
               "Who guards, and where usage comes from: auto (default: the first there is of the "
               "others), agent, bpf or procfs");
  options.text(socket, "--socket", "PATH",
               "Socket of the agent (default $PROCGUARD_SOCKET, else /run/procguard/agent.sock)");
  options.flag(no_agent, "--no-agent", "Use no agent");
  options.text(failsafe, "--failsafe", "WHO",
               "Who takes the last step while no agent runs: none (default) or kernel");
  options.each(labels, "--label", "K=V", "What the agent shows beside the name; may be repeated");
  options.text(name, "--name", "NAME", "Name of the guard in messages, report and trace");
  options.flag(dry_run, "--dry-run", "Record the steps, send nothing");
  options.text(report, "--report", "FILE", "Write what happened to FILE, as one JSON object");
  options.flag(preserve, "--preserve-status",
               "Exit with COMMAND's status even if a limit ended it");
  options.flag(distinct, "--distinct-status", "Exit with 120 (CPU), 121 (memory) or 124 (time)");
  options.flag(quiet, "-q,--quiet", "Print errors only");
  options.flag(verbose, "-v,--verbose", "Print a line for every event");
}

void check_scope(const Parser& parser, Checks& checks, RunOptions& options) {
  pg_scope& scope = options.guard.scope;
  scope = parser.cgroup.given ? PG_SCOPE_CGROUP : PG_SCOPE_TREE;
  if (parser.scope.value == "thread") {
    return checks.fail(
        "--scope: a command is never a single thread (expected process, tree, cgroup)");
  }
  checks.choice<pg_scope>(
      parser.scope, "--scope",
      {{"process", PG_SCOPE_PROCESS}, {"tree", PG_SCOPE_TREE}, {"cgroup", PG_SCOPE_CGROUP}}, scope);
  if (scope == PG_SCOPE_CGROUP && !parser.cgroup.given) {
    checks.fail("--scope cgroup needs --cgroup PATH");
  } else if (scope != PG_SCOPE_CGROUP && parser.cgroup.given) {
    checks.fail("--cgroup guards all that is in the cgroup: --scope " + parser.scope.value +
                " contradicts it");
  } else if (parser.cgroup.given && parser.cgroup.value.empty()) {
    checks.fail("--cgroup: empty path (expected a directory of a v2 cgroup)");
  }
  options.cgroup = parser.cgroup.value;
  checks.choice<Leftovers>(
      parser.leftovers, "--leftovers",
      {{"leave", Leftovers::kLeave}, {"wait", Leftovers::kWait}, {"kill", Leftovers::kKill}},
      options.leftovers);
  if (options.leftovers != Leftovers::kLeave && scope == PG_SCOPE_PROCESS) {
    checks.fail("--leftovers needs --scope tree or cgroup: a process leaves no members behind");
  }
  checks.conflict("--leftovers kill", options.leftovers == Leftovers::kKill, "--dry-run",
                  parser.dry_run);
}

void check_names(const Parser& parser, Checks& checks, RunOptions& options) {
  checks.guard_name(parser.name, "--name", options.guard.name);
  if (is_guard_number(options.guard.name)) {
    checks.fail("--name: '" + options.guard.name + "' would be taken for a guard's number");
  }
  if (parser.report.given && parser.report.value.empty()) {
    checks.fail("--report: empty file name");
  }
  options.report = parser.report.value;
  check_labels(parser.labels, checks, options.labels);
  checks.conflict("--quiet", parser.quiet, "--verbose", parser.verbose);
}

// After the scope: an agent kills no leftovers, whose guard is over.
void check_agent(const Parser& parser, Checks& checks, RunOptions& options) {
  using engine::SourceKind;
  using Source = std::pair<SourceKind, AgentUse>;
  Source source = {SourceKind::kAuto, AgentUse::kAuto};
  checks.choice<Source>(parser.source, "--source",
                        {{"auto", source},
                         {"agent", {SourceKind::kAuto, AgentUse::kRequired}},
                         {"bpf", {SourceKind::kBpf, AgentUse::kNever}},
                         {"procfs", {SourceKind::kProcfs, AgentUse::kNever}}},
                        source);
  std::tie(options.source, options.agent) = source;
  bool failsafe = false;
  checks.choice<bool>(parser.failsafe, "--failsafe", {{"none", false}, {"kernel", true}}, failsafe);
  options.guard.flags |= failsafe ? PG_GUARD_FAILSAFE : 0;
  const bool required = options.agent == AgentUse::kRequired;
  const std::pair<const char*, bool> against[] = {
      {"--no-agent", parser.no_agent},
      {"--source bpf or procfs", options.agent == AgentUse::kNever},
      {"--leftovers kill, which run does itself,", options.leftovers == Leftovers::kKill}};
  for (const auto& [what, given] : against) {
    checks.conflict("--source agent", required, what, given);
    checks.conflict("--failsafe kernel, which needs an agent,", failsafe, what, given);
    checks.conflict("--socket", parser.socket.given, what, given);
    options.agent = given ? AgentUse::kNever : options.agent;
  }
  if (parser.socket.given && parser.socket.value.empty()) {
    checks.fail("--socket: empty path");
  }
  options.socket = parser.socket.value;
}

}  // namespace

Result<RunRequest> parse_run_options(const std::vector<std::string>& args) {
  Parser parser;
  auto parsed = parser.options.parse(args, Words::kAfterOptions);
  if (!parsed) {
    return parsed.error();
  }
  RunRequest request;
  request.help = parsed->help;
  if (!request.help.empty()) {
    return request;
  }
  RunOptions& options = request.options;
  options.command = parsed->words;
  Checks checks;
  if (options.command.empty()) {
    checks.fail("no command (expected: procguard run [OPTIONS] [--] COMMAND [ARG]...)");
  }
  parser.limits.check(checks, options.guard);
  parser.ladder.check(checks, options.guard);
  check_scope(parser, checks, options);
  check_names(parser, checks, options);
  check_agent(parser, checks, options);
  options.guard.mode = parser.dry_run ? PG_MODE_MONITOR : PG_MODE_ENFORCE;
  options.quiet = parser.quiet;
  options.verbose = parser.verbose;
  options.preserve_status = parser.preserve;
  options.distinct_status = parser.distinct;
  if (checks.error()) {
    return *checks.error();
  }
  return request;
}

const char* leftovers_name(Leftovers leftovers) {
  switch (leftovers) {
    case Leftovers::kWait:
      return "wait";
    case Leftovers::kKill:
      return "kill";
    case Leftovers::kLeave:
      break;
  }
  return "leave";
}

}  // namespace procguard::cli
