// SPDX-License-Identifier: Apache-2.0
#include "cli/run_options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <csignal>
#include <cstdint>
#include <memory>
#include <optional>

#include "core/signals.h"
#include "core/units.h"

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

// An option with one argument. CLI11 finds it; what it means is decided here, where an empty text
// is not the same as none.
struct Text {
  CLI::Option* option = nullptr;
  std::string value;
  bool given() const { return option->count() > 0; }
};

class HelpFormat : public CLI::Formatter {
  std::string make_usage(const CLI::App* /*app*/, std::string /*name*/) const override {
    return std::string("Usage: procguard run [OPTIONS] [--] COMMAND [ARG]...\n") + kDescription +
           "\n";
  }
};

struct Parser {
  CLI::App app;
  Text timeout, cpu, memory, growth, grace, step_grace;
  Text interrupt, escalate, signal, kill_after;
  Text scope, cgroup, leftovers, source, name, report;
  bool kill = false, dry_run = false, quiet = false, verbose = false;
  bool preserve = false, distinct = false;

  Parser();
  void text(Text& text, const char* names, const char* type, const char* help) {
    text.option = app.add_option(names, text.value, help)->type_name(type)->take_last();
  }
  void flag(bool& given, const char* names, const char* help) { app.add_flag(names, given, help); }
};

Parser::Parser() {
  app.name("procguard run");
  app.formatter(std::make_shared<HelpFormat>());
  app.footer(kFooter);
  app.set_help_flag("-h,--help", "Print this and exit");
  text(timeout, "-t,--timeout", "DUR", "Wall time since COMMAND began");
  text(cpu, "--cpu", "DUR", "CPU time of all members together");
  text(memory, "-m,--memory", "SIZE", "Resident memory (RSS) of all members together");
  text(growth, "--memory-growth", "SIZE", "The same, above what it was when COMMAND began");
  text(grace, "--grace", "DUR", "Memory may be over its limit for this long (default 0)");
  text(step_grace, "--step-grace", "DUR", "Wait between two steps (default 15s; memory limits 5s)");
  text(interrupt, "--interrupt", "PRESET", "The steps: signal = INT, TERM, TERM (default)");
  flag(kill, "--kill", "Make the preset's last step KILL");
  text(escalate, "--escalate", "LIST", "Steps of your own, as INT:5s,TERM:10s,KILL");
  text(signal, "-s,--signal", "SIG", "One step: this signal");
  text(kill_after, "-k,--kill-after", "DUR", "After SIG (default TERM), KILL this much later");
  text(scope, "--scope", "SCOPE", "What is guarded: process, tree (default) or cgroup");
  text(cgroup, "--cgroup", "PATH", "Start COMMAND in this v2 cgroup and guard all that is in it");
  text(leftovers, "--leftovers", "WHAT",
       "Members that outlive COMMAND: leave (default), wait for, or kill them");
  text(source, "--source", "SOURCE", "Where usage comes from: auto (default), bpf or procfs");
  text(name, "--name", "NAME", "Name of the guard in messages, report and trace");
  flag(dry_run, "--dry-run", "Record the steps, send nothing");
  text(report, "--report", "FILE", "Write what happened to FILE, as one JSON object");
  flag(preserve, "--preserve-status", "Exit with COMMAND's status even if a limit ended it");
  flag(distinct, "--distinct-status", "Exit with 120 (CPU), 121 (memory) or 124 (time)");
  flag(quiet, "-q,--quiet", "Print errors only");
  flag(verbose, "-v,--verbose", "Print a line for every event");
}

bool takes_argument(const CLI::App& app, const std::string& name) {
  const CLI::Option* option = app.get_option_no_throw(name);
  return option != nullptr && option->get_items_expected_max() > 0;
}

// A cluster such as "-qvt": true if its last letter wants the next word.
bool cluster_wants_more(const CLI::App& app, const std::string& word) {
  for (std::size_t i = 1; i < word.size(); ++i) {
    if (takes_argument(app, std::string("-") + word[i])) {
      return i + 1 == word.size();
    }
  }
  return false;
}

// Where the options end and the command begins: the first word that is neither an option nor an
// option's argument. Found here because CLI11 would look into the command's own words ("[a,b]").
std::size_t options_end(const CLI::App& app, const std::vector<std::string>& args) {
  std::size_t i = 0;
  while (i < args.size()) {
    const std::string& word = args[i];
    if (word == "--" || word.size() < 2 || word[0] != '-') {
      break;
    }
    const bool is_long = word[1] == '-';
    const bool more = is_long ? takes_argument(app, word) : cluster_wants_more(app, word);
    i += more ? 2 : 1;
  }
  return std::min(i, args.size());
}

// The first error wins; the rest is not looked at.
class Checks {
 public:
  explicit Checks(Parser& parser) : parser_(parser) {}

  std::optional<Error> error() const { return error_; }

  void fail(const std::string& message) {
    if (!error_) {
      error_ = Error(message);
    }
  }
  void conflict(const char* one, bool one_given, const char* other, bool other_given) {
    if (one_given && other_given) {
      fail(std::string(one) + " and " + other + " exclude each other");
    }
  }

  // 0 means "not given" in a GuardSpec, so a given 0 is refused.
  void positive(const Text& text, const char* name,
                Result<std::uint64_t> (*parse)(std::string_view), std::uint64_t& out) {
    if (!text.given()) {
      return;
    }
    auto value = parse(text.value);
    if (!value) {
      fail(std::string(name) + ": " + value.error().message());
    } else if (value.value() == 0) {
      fail(std::string(name) + ": must be above 0 (leave the option out for no limit)");
    } else {
      out = value.value();
    }
  }

  template <typename Value>
  void choice(const Text& text, const char* name,
              std::initializer_list<std::pair<const char*, Value>> choices, Value& out) {
    if (!text.given()) {
      return;
    }
    std::string expected;
    for (const auto& [word, value] : choices) {
      if (text.value == word) {
        out = value;
        return;
      }
      expected += std::string(expected.empty() ? "" : ", ") + word;
    }
    fail(std::string(name) + ": unknown '" + text.value + "' (expected " + expected + ")");
  }

  void limits(core::GuardSpec& spec);
  void waits(const RunOptions& options, core::GuardSpec& spec);
  void ladder(core::GuardSpec& spec);
  void own_signal(core::GuardSpec& spec);
  void scope(RunOptions& options);
  void names(RunOptions& options);

 private:
  Parser& parser_;
  std::optional<Error> error_;
};

void Checks::limits(core::GuardSpec& spec) {
  positive(parser_.timeout, "--timeout", core::parse_duration, spec.timeout_ns);
  positive(parser_.cpu, "--cpu", core::parse_duration, spec.cpu_ns);
  positive(parser_.memory, "--memory", core::parse_size, spec.memory_bytes);
  positive(parser_.growth, "--memory-growth", core::parse_size, spec.memory_growth_bytes);
  if (!parser_.timeout.given() && !parser_.cpu.given() && !parser_.memory.given() &&
      !parser_.growth.given()) {
    fail("no limit (expected --timeout, --cpu, --memory or --memory-growth)");
  }
}

void Checks::waits(const RunOptions& options, core::GuardSpec& spec) {
  if (parser_.grace.given()) {
    if (!options.limits_memory()) {
      return fail(
          "--grace is how long a memory limit may be exceeded, and there is none; the wait between "
          "steps is --step-grace");
    }
    auto grace = core::parse_duration(parser_.grace.value);
    if (!grace) {
      return fail("--grace: " + grace.error().message());
    }
    spec.grace_ns = grace.value();
  }
  if (parser_.step_grace.given()) {
    auto wait = core::parse_duration(parser_.step_grace.value);
    if (!wait) {
      return fail("--step-grace: " + wait.error().message());
    }
    // 0 would mean the default; so short a wait counts as the shortest there is.
    spec.step_grace_ns = std::max<core::Ns>(wait.value(), core::kMinStepGrace);
  }
}

// -s SIG, -k DUR: the habits of timeout(1).
void Checks::own_signal(core::GuardSpec& spec) {
  int number = SIGTERM;
  if (parser_.signal.given()) {
    const auto parsed = core::parse_signal(parser_.signal.value);
    if (!parsed || *parsed == 0) {
      return fail("--signal: unknown signal '" + parser_.signal.value +
                  "' (expected a name or number, such as TERM or 15)");
    }
    number = *parsed;
  }
  pg_step first{.action = PG_ACTION_SIGNAL, .signal = static_cast<__u32>(number), .wait_ns = 0};
  std::uint64_t wait = 0;
  positive(parser_.kill_after, "--kill-after", core::parse_duration, wait);
  if (wait == 0) {
    spec.ladder = {first};
    return;
  }
  first.wait_ns = std::max<core::Ns>(wait, core::kMinStepGrace);
  spec.ladder = {first, {.action = PG_ACTION_SIGNAL, .signal = SIGKILL, .wait_ns = 0}};
}

void Checks::ladder(core::GuardSpec& spec) {
  const bool own = parser_.signal.given() || parser_.kill_after.given();
  const bool list = parser_.escalate.given();
  const bool preset = parser_.interrupt.given();
  conflict("--escalate", list, "--signal/--kill-after", own);
  conflict("--interrupt", preset, "--escalate", list);
  conflict("--interrupt", preset, "--signal/--kill-after", own);
  conflict("--kill", parser_.kill, "--escalate", list);
  conflict("--kill", parser_.kill, "--signal/--kill-after", own);
  const std::string& word = parser_.interrupt.value;
  if (preset && (word == "exception" || word == "exception_then_signal")) {
    fail("--interrupt: '" + word +
         "' needs code inside the program; a command can only be sent signals (expected signal)");
  } else if (preset && word != "signal") {
    fail("--interrupt: unknown preset '" + word + "' (expected signal)");
  }
  if (own) {
    own_signal(spec);
  } else if (list) {
    auto parsed = core::parse_ladder(parser_.escalate.value);
    if (!parsed) {
      return fail("--escalate: " + parsed.error().message());
    }
    spec.ladder = parsed.value();
  } else {
    spec.ladder = core::preset_ladder(core::Preset::kSignal, parser_.kill);
  }
}

void Checks::scope(RunOptions& options) {
  pg_scope& scope = options.guard.scope;
  scope = parser_.cgroup.given() ? PG_SCOPE_CGROUP : PG_SCOPE_TREE;
  if (parser_.scope.value == "thread") {
    return fail("--scope: a command is never a single thread (expected process, tree, cgroup)");
  }
  choice<pg_scope>(
      parser_.scope, "--scope",
      {{"process", PG_SCOPE_PROCESS}, {"tree", PG_SCOPE_TREE}, {"cgroup", PG_SCOPE_CGROUP}}, scope);
  if (scope == PG_SCOPE_CGROUP && !parser_.cgroup.given()) {
    fail("--scope cgroup needs --cgroup PATH");
  } else if (scope != PG_SCOPE_CGROUP && parser_.cgroup.given()) {
    fail("--cgroup guards all that is in the cgroup: --scope " + parser_.scope.value +
         " contradicts it");
  } else if (parser_.cgroup.given() && parser_.cgroup.value.empty()) {
    fail("--cgroup: empty path (expected a directory of a v2 cgroup)");
  }
  options.cgroup = parser_.cgroup.value;
  choice<Leftovers>(
      parser_.leftovers, "--leftovers",
      {{"leave", Leftovers::kLeave}, {"wait", Leftovers::kWait}, {"kill", Leftovers::kKill}},
      options.leftovers);
  if (options.leftovers != Leftovers::kLeave && scope == PG_SCOPE_PROCESS) {
    fail("--leftovers needs --scope tree or cgroup: a process leaves no members behind");
  }
  conflict("--leftovers kill", options.leftovers == Leftovers::kKill, "--dry-run", parser_.dry_run);
}

void Checks::names(RunOptions& options) {
  if (parser_.name.given()) {
    const std::string& name = parser_.name.value;
    const bool printable =
        std::all_of(name.begin(), name.end(), [](unsigned char c) { return std::isgraph(c) != 0; });
    if (name.empty() || name.size() >= PG_NAME_LEN || !printable) {
      fail("--name: expected 1 to " + std::to_string(PG_NAME_LEN - 1) +
           " printable ASCII characters without blanks");
    }
    options.guard.name = name;
  }
  if (parser_.report.given() && parser_.report.value.empty()) {
    fail("--report: empty file name");
  }
  options.report = parser_.report.value;
  choice<engine::SourceKind>(parser_.source, "--source",
                             {{"auto", engine::SourceKind::kAuto},
                              {"bpf", engine::SourceKind::kBpf},
                              {"procfs", engine::SourceKind::kProcfs}},
                             options.source);
  conflict("--quiet", parser_.quiet, "--verbose", parser_.verbose);
}

}  // namespace

Result<RunRequest> parse_run_options(const std::vector<std::string>& args) {
  Parser parser;
  const std::size_t end = options_end(parser.app, args);
  std::vector<std::string> words(args.begin(), args.begin() + static_cast<std::ptrdiff_t>(end));
  std::reverse(words.begin(), words.end());  // the order CLI11 takes a vector in
  RunRequest request;
  try {
    parser.app.parse(words);
  } catch (const CLI::CallForHelp&) {
    request.help = parser.app.help();
    return request;
  } catch (const CLI::ParseError& error) {
    return Error(error.what());
  }
  RunOptions& options = request.options;
  const std::size_t begin = end < args.size() && args[end] == "--" ? end + 1 : end;
  options.command.assign(args.begin() + static_cast<std::ptrdiff_t>(begin), args.end());
  Checks checks(parser);
  if (options.command.empty()) {
    checks.fail("no command (expected: procguard run [OPTIONS] [--] COMMAND [ARG]...)");
  }
  checks.limits(options.guard);
  checks.waits(options, options.guard);
  checks.ladder(options.guard);
  checks.scope(options);
  checks.names(options);
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
