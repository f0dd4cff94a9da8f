// SPDX-License-Identifier: Apache-2.0
#include "cli/attach_options.h"

#include <algorithm>
#include <array>

#include "cli/agent_parser.h"
#include "cli/labels.h"
#include "cli/limit_options.h"
#include "proto/codec.h"
#include "sys/procfs_parse.h"

namespace procguard::cli {
namespace {

constexpr const char* kDescription =
    "Guards what runs already, and prints the number of the guard. It lasts until its target has\n"
    "ended or it is released, also while no agent runs.\n"
    "DUR: 10, 1.5m, 2h, 300ms, 50us (seconds without a unit). SIZE: 512K, 64M, 2G, 1T (powers of\n"
    "1024; the unit is required).";

constexpr const char* kExamples =
    "  procguard attach --pid 4242 -m 2G                 one process\n"
    "  procguard attach --tree 4242 -t 1h --kill         it and all its descendants\n"
    "  procguard attach --cgroup /jobs/nightly --cpu 2h --name nightly\n"
    "  procguard attach --container 3f2a9c -m 512M --grace 2s --failsafe kernel\n"
    "  g=$(procguard attach --pid 4242 -t 10m) && procguard show $g";

struct Parser {
  AgentParser agent{"attach TARGET [OPTIONS]", kDescription, kExamples};
  Text pid, tid, tree, cgroup, container;
  LimitOptions limits;
  LadderOptions ladder;
  Text failsafe, name;
  std::vector<std::string> labels;
  bool dry_run = false;

  Parser();
};

Parser::Parser() {
  Options& options = agent.options();
  options.text(pid, "--pid", "P", "TARGET: the process P");
  options.text(tid, "--tid", "T", "TARGET: the thread T");
  options.text(tree, "--tree", "P", "TARGET: the process P with all its descendants");
  options.text(cgroup, "--cgroup", "PATH", "TARGET: all that is in this v2 cgroup and below");
  options.text(container, "--container", "ID", "TARGET: the cgroup of this container");
  limits.add_to(options, "it was attached");
  ladder.add_to(options);
  options.text(failsafe, "--failsafe", "WHO",
               "While no agent runs the last step is taken by: none (default), kernel");
  options.text(name, "--name", "NAME", "Name of the guard");
  options.each(labels, "--label", "K=V", "What you call it by beside its name; may be repeated");
  options.flag(dry_run, "--dry-run", "Record the steps, send nothing");
}

void check_number(const Text& text, const char* option, Checks& checks, pid_t& number) {
  const auto parsed = sys::parse_pid(text.value);
  if (!parsed) {
    return checks.fail(std::string(option) + ": unknown number '" + text.value +
                       "' (expected that of a process or thread, above 0)");
  }
  number = *parsed;
}

void check_target(const Parser& parser, Checks& checks, TargetWords& target) {
  struct Row {
    const Text& text;
    const char* option;
    pg_scope scope;
  };
  const std::array<Row, 5> rows = {{{parser.pid, "--pid", PG_SCOPE_PROCESS},
                                    {parser.tid, "--tid", PG_SCOPE_THREAD},
                                    {parser.tree, "--tree", PG_SCOPE_TREE},
                                    {parser.cgroup, "--cgroup", PG_SCOPE_CGROUP},
                                    {parser.container, "--container", PG_SCOPE_CGROUP}}};
  const Row* given = nullptr;
  for (const Row& row : rows) {
    if (!row.text.given) {
      continue;
    }
    checks.conflict(given == nullptr ? "" : given->option, given != nullptr, row.option, true);
    given = &row;
  }
  if (given == nullptr) {
    return checks.fail("no target (expected --pid, --tid, --tree, --cgroup or --container)");
  }
  target.scope = given->scope;
  if (given->scope != PG_SCOPE_CGROUP) {
    return check_number(given->text, given->option, checks, target.number);
  }
  if (given->text.value.empty()) {
    checks.fail(std::string(given->option) + ": empty");
  }
  target.cgroup = parser.cgroup.value;
  target.container = parser.container.value;
}

}  // namespace

Result<AttachOptions> parse_attach_options(const std::vector<std::string>& args) {
  Parser parser;
  AttachOptions attach;
  return parser.agent.parse(args, attach, [&](const auto& words, Checks& checks) {
    if (!words.empty()) {
      checks.fail("unexpected '" + words[0] + "' (expected options only)");
    }
    check_target(parser, checks, attach.target);
    parser.limits.check(checks, attach.guard);
    parser.ladder.check(checks, attach.guard);
    bool failsafe = false;
    checks.choice<bool>(parser.failsafe, "--failsafe", {{"none", false}, {"kernel", true}},
                        failsafe);
    checks.guard_name(parser.name, "--name", attach.guard.name);
    if (is_guard_number(attach.guard.name)) {
      checks.fail("--name: '" + attach.guard.name + "' would be taken for a guard's number");
    }
    check_labels(parser.labels, checks, attach.labels);
    attach.guard.scope = attach.target.scope;
    attach.guard.mode = parser.dry_run ? PG_MODE_MONITOR : PG_MODE_ENFORCE;
    attach.guard.flags = failsafe ? PG_GUARD_FAILSAFE : 0;
  });
}

proto::AttachBody attach_body(const AttachOptions& options, const Target& target) {
  const core::GuardSpec& guard = options.guard;
  proto::AttachBody body;
  body.flags = proto::kHasFd;
  body.flags |= (guard.flags & PG_GUARD_FAILSAFE) != 0 ? proto::kFailsafe : 0U;
  body.flags |= guard.mode == PG_MODE_MONITOR ? proto::kMonitor : 0U;
  body.scope = guard.scope;
  body.tid = static_cast<std::uint32_t>(target.tid);
  body.limit[PG_TIMEOUT] = guard.timeout_ns;
  body.limit[PG_CPU] = guard.cpu_ns;
  body.limit[PG_MEMORY] = guard.memory_bytes;
  body.limit[PG_MEMORY_GROWTH] = guard.memory_growth_bytes;
  body.grace_ns = guard.grace_ns;
  body.step_grace_ns = guard.step_grace_ns;
  body.steps = static_cast<std::uint32_t>(guard.ladder.size());
  std::copy(guard.ladder.begin(), guard.ladder.end(), body.ladder);
  proto::put_text(body.name, guard.name);
  proto::put_text(body.labels, options.labels);
  return body;
}

}  // namespace procguard::cli
