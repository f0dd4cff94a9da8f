// SPDX-License-Identifier: Apache-2.0
#include "cli/verdict.h"

#include <cerrno>

namespace procguard::cli {

int command_status(const CommandEnd& end) {
  return end.signal != 0 ? 128 + end.signal : end.exit_code;
}

int exit_status(const Ending& ending, const StatusOptions& options) {
  if (ending.failed) {
    return kExitFailed;
  }
  if (ending.exec_error != 0) {
    return ending.exec_error == ENOENT ? kExitNotFound : kExitCannotExecute;
  }
  if (!ending.tripped || options.preserve) {
    return command_status(ending.command);
  }
  if (options.distinct) {
    switch (*ending.tripped) {
      case PG_CPU:
        return kExitCpu;
      case PG_MEMORY:
      case PG_MEMORY_GROWTH:
        return kExitMemory;
      default:
        return kExitTripped;
    }
  }
  return ending.killed ? kExitKilled : kExitTripped;
}

}  // namespace procguard::cli
