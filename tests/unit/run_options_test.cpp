// SPDX-License-Identifier: Apache-2.0
// The command line of `procguard run`: what each means, and what is refused.
#include "cli/run_options.h"

#include <gtest/gtest.h>

#include <csignal>
#include <string>
#include <vector>

#include "core/ladder.h"

namespace procguard::cli {
namespace {

using Words = std::vector<std::string>;

RunOptions parsed(const Words& args) {
  auto request = parse_run_options(args);
  EXPECT_TRUE(request.ok()) << (request.ok() ? "" : request.error().message());
  return request.ok() ? request->options : RunOptions();
}

struct CommandRow {
  const char* description;
  Words args;
  Words command;
};

// The command's own words are never looked into.
TEST(RunOptions, WhereTheCommandBegins) {
  const CommandRow rows[] = {
      {"after --", {"-t", "1", "--", "ls", "-l"}, {"ls", "-l"}},
      {"first word that is no option", {"-t", "1", "ls", "-l", "--kill"}, {"ls", "-l", "--kill"}},
      {"after a joined value", {"-t1", "ls"}, {"ls"}},
      {"after --long=value", {"--timeout=1", "ls", "-t"}, {"ls", "-t"}},
      {"after a cluster", {"-qt", "1", "ls"}, {"ls"}},
      {"after a cluster with its value", {"-qt1", "ls"}, {"ls"}},
      {"a second -- is the command's", {"-t", "1", "--", "sh", "--", "x"}, {"sh", "--", "x"}},
      {"-- as an argument", {"-t", "1", "sh", "--", "x"}, {"sh", "--", "x"}},
      {"empty words", {"-t", "1", "printf", "", "x", ""}, {"printf", "", "x", ""}},
      {"brackets and commas", {"-t", "1", "--", "py", "[1,2]", "a,b"}, {"py", "[1,2]", "a,b"}},
      {"percent signs", {"-t", "1", "--", "date", "%%", "%"}, {"date", "%%", "%"}},
      {"a dash", {"-t", "1", "-"}, {"-"}},
      {"a value like an option", {"--name", "-x", "-t", "1", "ls"}, {"ls"}},
  };
  for (const CommandRow& row : rows) {
    EXPECT_EQ(parsed(row.args).command, row.command) << row.description;
  }
}

TEST(RunOptions, Defaults) {
  const RunOptions options = parsed({"-t", "2m", "true"});
  EXPECT_EQ(options.guard.timeout_ns, 120 * core::kSecond);
  EXPECT_EQ(options.guard.cpu_ns, 0U);
  EXPECT_EQ(options.guard.memory_bytes, 0U);
  EXPECT_EQ(options.guard.memory_growth_bytes, 0U);
  EXPECT_EQ(options.guard.grace_ns, 0U);
  EXPECT_EQ(options.guard.step_grace_ns, 0U) << "the resource's default";
  EXPECT_EQ(options.guard.scope, PG_SCOPE_TREE);
  EXPECT_EQ(options.guard.mode, PG_MODE_ENFORCE);
  EXPECT_EQ(core::format_ladder(options.guard.ladder), "INT,TERM,TERM");
  EXPECT_EQ(options.leftovers, Leftovers::kLeave);
  EXPECT_EQ(options.source, engine::SourceKind::kAuto);
  EXPECT_TRUE(options.report.empty());
  EXPECT_FALSE(options.quiet || options.verbose || options.preserve_status ||
               options.distinct_status);
}

TEST(RunOptions, AllOfThem) {
  const RunOptions options = parsed({"--timeout",
                                     "300ms",
                                     "--cpu",
                                     "1.5m",
                                     "--memory",
                                     "64M",
                                     "--memory-growth",
                                     "1G",
                                     "--grace",
                                     "1s",
                                     "--step-grace",
                                     "200ms",
                                     "--name",
                                     "job-7",
                                     "--report",
                                     "r.json",
                                     "--leftovers",
                                     "wait",
                                     "--source",
                                     "procfs",
                                     "--dry-run",
                                     "--preserve-status",
                                     "--distinct-status",
                                     "-v",
                                     "true"});
  EXPECT_EQ(options.guard.timeout_ns, 300 * core::kMillisecond);
  EXPECT_EQ(options.guard.cpu_ns, 90 * core::kSecond);
  EXPECT_EQ(options.guard.memory_bytes, 64U << 20);
  EXPECT_EQ(options.guard.memory_growth_bytes, 1U << 30);
  EXPECT_EQ(options.guard.grace_ns, core::kSecond);
  EXPECT_EQ(options.guard.step_grace_ns, 200 * core::kMillisecond);
  EXPECT_EQ(options.guard.name, "job-7");
  EXPECT_EQ(options.report, "r.json");
  EXPECT_EQ(options.leftovers, Leftovers::kWait);
  EXPECT_EQ(options.source, engine::SourceKind::kProcfs);
  EXPECT_TRUE(options.dry_run() && options.verbose && options.preserve_status &&
              options.distinct_status);
}

struct AgentRow {
  Words options;
  AgentUse agent;
  engine::SourceKind source;
  bool failsafe;
};

TEST(RunOptions, WhoKeepsTheGuard) {
  using engine::SourceKind;
  const AgentRow rows[] = {
      {{}, AgentUse::kAuto, SourceKind::kAuto, false},
      {{"--source", "auto"}, AgentUse::kAuto, SourceKind::kAuto, false},
      {{"--source", "agent"}, AgentUse::kRequired, SourceKind::kAuto, false},
      {{"--source", "bpf"}, AgentUse::kNever, SourceKind::kBpf, false},
      {{"--source", "procfs"}, AgentUse::kNever, SourceKind::kProcfs, false},
      {{"--no-agent"}, AgentUse::kNever, SourceKind::kAuto, false},
      {{"--no-agent", "--source", "bpf"}, AgentUse::kNever, SourceKind::kBpf, false},
      {{"--leftovers", "kill"}, AgentUse::kNever, SourceKind::kAuto, false},
      {{"--failsafe", "kernel"}, AgentUse::kAuto, SourceKind::kAuto, true},
      {{"--failsafe", "none", "--no-agent"}, AgentUse::kNever, SourceKind::kAuto, false},
  };
  for (const AgentRow& row : rows) {
    Words args = row.options;
    args.insert(args.end(), {"-t", "1", "true"});
    const RunOptions options = parsed(args);
    EXPECT_EQ(options.agent, row.agent) << args[0] << " " << args[1];
    EXPECT_EQ(options.source, row.source) << args[0] << " " << args[1];
    EXPECT_EQ((options.guard.flags & PG_GUARD_FAILSAFE) != 0, row.failsafe) << args[0];
  }
  const RunOptions options =
      parsed({"-t", "1", "--socket", "/s", "--label", "a=1", "--label", "b=x y", "true"});
  EXPECT_EQ(options.socket, "/s");
  EXPECT_EQ(options.labels, "a=1\nb=x y");
}

struct LadderRow {
  Words options;
  const char* ladder;
};

TEST(RunOptions, Ladders) {
  const LadderRow rows[] = {
      {{}, "INT,TERM,TERM"},
      {{"--interrupt", "signal"}, "INT,TERM,TERM"},
      {{"--kill"}, "INT,TERM,KILL"},
      {{"--interrupt", "signal", "--kill"}, "INT,TERM,KILL"},
      {{"--escalate", "INT:5s,TERM:10s,KILL"}, "INT:5s,TERM:10s,KILL"},
      {{"-s", "USR1"}, "USR1"},
      {{"-s", "sigkill"}, "KILL"},
      {{"-s", "15"}, "TERM"},
      {{"-s", "INT", "-k", "2s"}, "INT:2s,KILL"},
      {{"-k", "2"}, "TERM:2s,KILL"},
      {{"-k", "1us"}, "TERM:10ms,KILL"},
  };
  for (const LadderRow& row : rows) {
    Words args = row.options;
    args.insert(args.end(), {"-t", "1", "true"});
    EXPECT_EQ(core::format_ladder(parsed(args).guard.ladder), row.ladder);
  }
}

TEST(RunOptions, ShortWaitsCountAsTheShortest) {
  EXPECT_EQ(parsed({"-t", "1", "--step-grace", "0", "true"}).guard.step_grace_ns,
            core::kMinStepGrace);
  EXPECT_EQ(parsed({"-m", "1G", "--grace", "0", "true"}).guard.grace_ns, 0U);
}

TEST(RunOptions, TheLastOfTheSameCounts) {
  EXPECT_EQ(parsed({"-t", "1", "-t", "2", "true"}).guard.timeout_ns, 2 * core::kSecond);
}

TEST(RunOptions, ACgroupIsTheScope) {
  const RunOptions options = parsed({"-t", "1", "--cgroup", "/sys/fs/cgroup/job", "true"});
  EXPECT_EQ(options.guard.scope, PG_SCOPE_CGROUP);
  EXPECT_EQ(options.cgroup, "/sys/fs/cgroup/job");
  EXPECT_EQ(parsed({"-t", "1", "--scope", "process", "true"}).guard.scope, PG_SCOPE_PROCESS);
}

TEST(RunOptions, HelpNeedsNothingElse) {
  for (const Words& args : {Words{"--help"}, Words{"-h"}, Words{"-t", "1", "--help"}}) {
    auto request = parse_run_options(args);
    ASSERT_TRUE(request.ok());
    EXPECT_NE(request->help.find("Usage: procguard run"), std::string::npos);
    EXPECT_NE(request->help.find("Examples:"), std::string::npos);
  }
}

struct ErrorRow {
  Words args;
  const char* mentions;
};

TEST(RunOptions, ErrorsNameWhatIsWrong) {
  const ErrorRow rows[] = {
      {{"-t", "1"}, "no command"},
      {{"-t", "1", "--"}, "no command"},
      {{"true"}, "no limit"},
      {{"--kill", "--", "true"}, "no limit"},
      {{"-t", "0", "true"}, "--timeout"},
      {{"-t", "", "true"}, "--timeout"},
      {{"-t", "-1", "true"}, "--timeout"},
      {{"-t"}, "--timeout"},
      {{"--cpu", "0s", "true"}, "--cpu"},
      {{"-m", "0M", "true"}, "--memory"},
      {{"-m", "64", "true"}, "a unit is needed"},
      {{"--memory-growth", "0K", "true"}, "--memory-growth"},
      {{"-t", "1", "--grace", "1s", "true"}, "--step-grace"},
      {{"--cpu", "1", "--grace", "0", "true"}, "--step-grace"},
      {{"-t", "1", "--step-grace", "soon", "true"}, "soon"},
      {{"-t", "1", "--interrupt", "exception", "true"}, "exception"},
      {{"-t", "1", "--interrupt", "exception_then_signal", "true"}, "exception_then_signal"},
      {{"-t", "1", "--interrupt", "shout", "true"}, "shout"},
      {{"-t", "1", "--escalate", "exception,KILL", "true"}, "--escalate"},
      {{"-t", "1", "--escalate", "", "true"}, "--escalate"},
      {{"-t", "1", "-s", "FOO", "true"}, "FOO"},
      {{"-t", "1", "-s", "0", "true"}, "--signal"},
      {{"-t", "1", "-k", "0", "true"}, "--kill-after"},
      {{"-t", "1", "-s", "INT", "--kill", "true"}, "exclude each other"},
      {{"-t", "1", "--escalate", "KILL", "--kill", "true"}, "exclude each other"},
      {{"-t", "1", "--escalate", "KILL", "-s", "INT", "true"}, "exclude each other"},
      {{"-t", "1", "--interrupt", "signal", "-s", "INT", "true"}, "exclude each other"},
      {{"-t", "1", "-q", "-v", "true"}, "exclude each other"},
      {{"-t", "1", "--dry-run", "--leftovers", "kill", "true"}, "exclude each other"},
      {{"-t", "1", "--scope", "thread", "true"}, "thread"},
      {{"-t", "1", "--scope", "planet", "true"}, "planet"},
      {{"-t", "1", "--scope", "cgroup", "true"}, "--cgroup PATH"},
      {{"-t", "1", "--scope", "tree", "--cgroup", "/x", "true"}, "--scope tree"},
      {{"-t", "1", "--cgroup", "", "true"}, "--cgroup"},
      {{"-t", "1", "--scope", "process", "--leftovers", "kill", "true"}, "--leftovers"},
      {{"-t", "1", "--leftovers", "eat", "true"}, "eat"},
      {{"-t", "1", "--source", "guess", "true"}, "guess"},
      {{"-t", "1", "--source", "", "true"}, "--source"},
      {{"-t", "1", "--name", "", "true"}, "--name"},
      {{"-t", "1", "--name", "a b", "true"}, "--name"},
      {{"-t", "1", "--name", "a\nb", "true"}, "--name"},
      {{"-t", "1", "--name", std::string(PG_NAME_LEN, 'n'), "true"}, "--name"},
      {{"-t", "1", "--source", "agent", "--no-agent", "true"}, "--no-agent exclude"},
      {{"-t", "1", "--source", "agent", "--leftovers", "kill", "true"}, "--leftovers kill"},
      {{"-t", "1", "--failsafe", "kernel", "--no-agent", "true"}, "needs an agent"},
      {{"-t", "1", "--failsafe", "kernel", "--source", "bpf", "true"}, "needs an agent"},
      {{"-t", "1", "--failsafe", "kernel", "--leftovers", "kill", "true"}, "needs an agent"},
      {{"-t", "1", "--failsafe", "maybe", "true"}, "maybe"},
      {{"-t", "1", "--socket", "/s", "--no-agent", "true"}, "--socket and"},
      {{"-t", "1", "--socket", "", "true"}, "--socket"},
      {{"-t", "1", "--label", "x", "true"}, "--label"},
      {{"-t", "1", "--name", "g12", "true"}, "guard's number"},
      {{"-t", "1", "--label", "a=1", "--label", "a=2", "true"}, "twice"},
      {{"-t", "1", "--report", "", "true"}, "--report"},
      {{"-t", "1", "--frobnicate", "true"}, "--frobnicate"},
      {{"--tiemout", "1", "true"}, "--tiemout"},
      {{"-t", "1", "-x", "true"}, "-x"},
  };
  for (const ErrorRow& row : rows) {
    std::string line;
    for (const std::string& word : row.args) {
      line += " '" + word + "'";
    }
    auto request = parse_run_options(row.args);
    ASSERT_FALSE(request.ok()) << line;
    EXPECT_NE(request.error().message().find(row.mentions), std::string::npos)
        << line << " said: " << request.error().message();
  }
}

}  // namespace
}  // namespace procguard::cli
