// SPDX-License-Identifier: Apache-2.0
// The command line of `procguard run`: argv in, checked options out. Pure, no output, no exit.
#pragma once

#include <string>
#include <vector>

#include "core/guard.h"
#include "core/result.h"
#include "engine/source_factory.h"

namespace procguard::cli {

// What becomes of living members of the target when the command has ended.
enum class Leftovers { kLeave, kWait, kKill };

// Who keeps the guard.
enum class AgentUse {
  kAuto,      // an agent if one runs, else run itself
  kNever,     // run itself
  kRequired,  // an agent, or it is an error
};

struct RunOptions {
  core::GuardSpec guard;  // owner_uid is not set here
  std::vector<std::string> command;
  std::string cgroup;  // directory; empty unless the scope is cgroup
  std::string report;  // file; empty = none
  Leftovers leftovers = Leftovers::kLeave;
  engine::SourceKind source = engine::SourceKind::kAuto;  // of a guard of run's own
  AgentUse agent = AgentUse::kAuto;
  std::string socket;  // of the agent; empty: the environment's, or the usual one
  std::string labels;  // "K=V" lines
  bool quiet = false;
  bool verbose = false;
  bool preserve_status = false;
  bool distinct_status = false;

  bool dry_run() const { return guard.mode == PG_MODE_MONITOR; }
  bool limits_memory() const { return guard.memory_bytes != 0 || guard.memory_growth_bytes != 0; }
};

struct RunRequest {
  RunOptions options;
  std::string help;  // not empty: print this and do nothing else
};

// `args`: what follows the word "run". The error says which option, what was given and what was
// expected.
Result<RunRequest> parse_run_options(const std::vector<std::string>& args);

const char* leftovers_name(Leftovers leftovers);  // "leave", "wait", "kill"

}  // namespace procguard::cli
