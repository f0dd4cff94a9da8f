// SPDX-License-Identifier: Apache-2.0
// All that is known about one run when it is over: what the report and the exit status are made of.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/run_options.h"
#include "cli/thread_look.h"
#include "cli/verdict.h"
#include "engine/executor.h"
#include "engine/source.h"

namespace procguard::cli {

struct StepRecord {
  pg_event event{};
  std::vector<pid_t> refused;
};

struct TripRecord {
  pg_event event{};  // the step that began the ladder
  core::Ns over_since_ns = 0;
  std::uint64_t base = 0;  // memory_growth: RSS at the start
  std::string comm;        // of event.pid
};

struct RunRecord {
  std::uint64_t guard_id = 0;
  std::string name;

  pid_t pid = 0;
  core::Ns process_start_ns = 0;  // since boot; 0 = not known
  std::string comm;

  std::string source;
  std::string membership;
  std::string weaker_because;
  std::string scheduling;
  bool degraded = false;

  core::Ns started_ns = 0;  // CLOCK_MONOTONIC; 0 = the guard never began
  core::Ns ended_ns = 0;    // when the command had ended
  Ending ending;
  std::string failure;              // what went wrong with procguard itself or the exec
  bool command_ran = false;         // `ending.command` says something
  bool ended_by_guard = false;      // a step's signal is what ended the command
  bool ended_by_forwarded = false;  // a signal that was sent to procguard and passed on

  std::optional<TripRecord> trip;
  std::vector<StepRecord> steps;
  std::uint64_t steps_omitted = 0;

  engine::Levels levels;
  pg_usage usage{};
  std::uint64_t command_max_rss_bytes = 0;  // by wait4(2), with the children it waited for
  std::uint64_t command_cpu_ns = 0;
  std::optional<Look> look;

  std::uint64_t leftovers = 0;  // members that lived when the command had ended
};

}  // namespace procguard::cli
