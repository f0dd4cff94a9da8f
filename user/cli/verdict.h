// SPDX-License-Identifier: Apache-2.0
// The exit status of `procguard run`. Pure.
#pragma once

#include <cstdint>
#include <optional>

#include "bpf/contract.h"

namespace procguard::cli {

inline constexpr int kExitCpu = 120;
inline constexpr int kExitMemory = 121;
inline constexpr int kExitTripped = 124;
inline constexpr int kExitFailed = 125;
inline constexpr int kExitCannotExecute = 126;
inline constexpr int kExitNotFound = 127;
inline constexpr int kExitKilled = 137;

// How the command ended. One of the two is 0.
struct CommandEnd {
  int exit_code = 0;
  int signal = 0;
};

struct Ending {
  bool failed = false;  // procguard itself could not do its work
  int exec_error = 0;   // errno of the failed exec; 0 = it was executed
  CommandEnd command = {};
  // The limit that tripped first, with a step that was not only recorded; none = nothing tripped.
  std::optional<pg_resource> tripped = {};
  bool killed = false;  // a SIGKILL of the ladder reached a member
};

struct StatusOptions {
  bool preserve = false;
  bool distinct = false;
};

// 128+N for signal N, as a shell says it.
int command_status(const CommandEnd& end);

// In this order: 125 to 127, preserve, distinct, 137, 124, the command's own.
int exit_status(const Ending& ending, const StatusOptions& options);

}  // namespace procguard::cli
