// SPDX-License-Identifier: Apache-2.0
#include "cli/limit_options.h"

#include <algorithm>
#include <csignal>

#include "core/ladder.h"
#include "core/signals.h"
#include "core/units.h"

namespace procguard::cli {

void LimitOptions::add_to(Options& options, const std::string& begin) {
  options.text(timeout, "-t,--timeout", "DUR", "Wall time since " + begin);
  options.text(cpu, "--cpu", "DUR", "CPU time of all members together");
  options.text(memory, "-m,--memory", "SIZE", "Resident memory (RSS) of all members together");
  options.text(growth, "--memory-growth", "SIZE", "The same, above what it was when " + begin);
}

void LimitOptions::check(Checks& checks, core::GuardSpec& spec) const {
  checks.positive(timeout, "--timeout", core::parse_duration, spec.timeout_ns);
  checks.positive(cpu, "--cpu", core::parse_duration, spec.cpu_ns);
  checks.positive(memory, "--memory", core::parse_size, spec.memory_bytes);
  checks.positive(growth, "--memory-growth", core::parse_size, spec.memory_growth_bytes);
  if (!timeout.given && !cpu.given && !memory.given && !growth.given) {
    checks.fail("no limit (expected --timeout, --cpu, --memory or --memory-growth)");
  }
}

void LadderOptions::add_to(Options& options) {
  options.text(grace, "--grace", "DUR", "Memory may be over its limit for this long (default 0)");
  options.text(step_grace, "--step-grace", "DUR",
               "Wait between two steps (default 15s; memory limits 5s)");
  options.text(interrupt, "--interrupt", "PRESET", "The steps: signal = INT, TERM, TERM (default)");
  options.flag(kill, "--kill", "Make the preset's last step KILL");
  options.text(escalate, "--escalate", "LIST", "Steps of your own, as INT:5s,TERM:10s,KILL");
  options.text(signal, "-s,--signal", "SIG", "One step: this signal");
  options.text(kill_after, "-k,--kill-after", "DUR",
               "After SIG (default TERM), KILL this much later");
}

void LadderOptions::check(Checks& checks, core::GuardSpec& spec) const {
  check_waits(checks, spec);
  check_ladder(checks, spec);
}

void LadderOptions::check_waits(Checks& checks, core::GuardSpec& spec) const {
  if (grace.given) {
    if (spec.memory_bytes == 0 && spec.memory_growth_bytes == 0) {
      return checks.fail(
          "--grace is how long a memory limit may be exceeded, and there is none; the wait between "
          "steps is --step-grace");
    }
    auto parsed = core::parse_duration(grace.value);
    if (!parsed) {
      return checks.fail("--grace: " + parsed.error().message());
    }
    spec.grace_ns = parsed.value();
  }
  if (step_grace.given) {
    auto wait = core::parse_duration(step_grace.value);
    if (!wait) {
      return checks.fail("--step-grace: " + wait.error().message());
    }
    // 0 would mean the default; so short a wait counts as the shortest there is.
    spec.step_grace_ns = std::max<core::Ns>(wait.value(), core::kMinStepGrace);
  }
}

// -s SIG, -k DUR: the habits of timeout(1).
void LadderOptions::own_signal(Checks& checks, core::GuardSpec& spec) const {
  int number = SIGTERM;
  if (signal.given) {
    const auto parsed = core::parse_signal(signal.value);
    if (!parsed || *parsed == 0) {
      return checks.fail("--signal: unknown signal '" + signal.value +
                         "' (expected a name or number, such as TERM or 15)");
    }
    number = *parsed;
  }
  pg_step first{.action = PG_ACTION_SIGNAL, .signal = static_cast<__u32>(number), .wait_ns = 0};
  std::uint64_t wait = 0;
  checks.positive(kill_after, "--kill-after", core::parse_duration, wait);
  if (wait == 0) {
    spec.ladder = {first};
    return;
  }
  first.wait_ns = std::max<core::Ns>(wait, core::kMinStepGrace);
  spec.ladder = {first, {.action = PG_ACTION_SIGNAL, .signal = SIGKILL, .wait_ns = 0}};
}

void LadderOptions::check_ladder(Checks& checks, core::GuardSpec& spec) const {
  const bool own = signal.given || kill_after.given;
  const bool list = escalate.given;
  const bool preset = interrupt.given;
  checks.conflict("--escalate", list, "--signal/--kill-after", own);
  checks.conflict("--interrupt", preset, "--escalate", list);
  checks.conflict("--interrupt", preset, "--signal/--kill-after", own);
  checks.conflict("--kill", kill, "--escalate", list);
  checks.conflict("--kill", kill, "--signal/--kill-after", own);
  const std::string& word = interrupt.value;
  if (preset && (word == "exception" || word == "exception_then_signal")) {
    checks.fail("--interrupt: '" + word +
                "' needs code inside the program; a command can only be sent signals (expected "
                "signal)");
  } else if (preset && word != "signal") {
    checks.fail("--interrupt: unknown preset '" + word + "' (expected signal)");
  }
  if (own) {
    own_signal(checks, spec);
  } else if (list) {
    auto parsed = core::parse_ladder(escalate.value);
    if (!parsed) {
      return checks.fail("--escalate: " + parsed.error().message());
    }
    spec.ladder = parsed.value();
  } else {
    spec.ladder = core::preset_ladder(core::Preset::kSignal, kill);
  }
}

}  // namespace procguard::cli
