// SPDX-License-Identifier: Apache-2.0
// Which exit status `procguard run` ends with.
#include "cli/verdict.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <csignal>
#include <string>

namespace procguard::cli {
namespace {

struct Row {
  const char* description;
  Ending ending;
  StatusOptions options;
  int expected;
};

constexpr CommandEnd kByInt{.exit_code = 0, .signal = SIGINT};
constexpr CommandEnd kByKill{.exit_code = 0, .signal = SIGKILL};
constexpr StatusOptions kPreserve{.preserve = true, .distinct = false};
constexpr StatusOptions kDistinct{.preserve = false, .distinct = true};
constexpr StatusOptions kBoth{.preserve = true, .distinct = true};

const Row kRows[] = {
    {"a command that ends well", {}, {}, 0},
    {"its own code", {.command = {.exit_code = 3, .signal = 0}}, {}, 3},
    {"somebody's signal", {.command = {.exit_code = 0, .signal = SIGSEGV}}, {}, 128 + SIGSEGV},
    {"somebody's KILL", {.command = kByKill}, {}, 137},
    {"not tripped: the switches change nothing",
     {.command = {.exit_code = 4, .signal = 0}},
     kBoth,
     4},
    {"timeout", {.command = kByInt, .tripped = PG_TIMEOUT}, {}, 124},
    {"memory", {.command = kByInt, .tripped = PG_MEMORY}, {}, 124},
    {"tripped, yet it exited 0", {.tripped = PG_TIMEOUT}, {}, 124},
    {"tripped, then its own code",
     {.command = {.exit_code = 9, .signal = 0}, .tripped = PG_CPU},
     {},
     124},
    {"KILL had to be sent", {.command = kByKill, .tripped = PG_TIMEOUT, .killed = true}, {}, 137},
    {"KILL for a member, the command ended before",
     {.command = kByInt, .tripped = PG_TIMEOUT, .killed = true},
     {},
     137},
    {"preserve: signal", {.command = kByInt, .tripped = PG_TIMEOUT}, kPreserve, 128 + SIGINT},
    {"preserve: code",
     {.command = {.exit_code = 7, .signal = 0}, .tripped = PG_TIMEOUT},
     kPreserve,
     7},
    {"preserve: exited 0", {.tripped = PG_TIMEOUT}, kPreserve, 0},
    {"preserve before distinct", {.command = kByInt, .tripped = PG_CPU}, kBoth, 128 + SIGINT},
    {"distinct: time", {.command = kByInt, .tripped = PG_TIMEOUT}, kDistinct, 124},
    {"distinct: CPU", {.command = kByInt, .tripped = PG_CPU}, kDistinct, 120},
    {"distinct: memory", {.command = kByInt, .tripped = PG_MEMORY}, kDistinct, 121},
    {"distinct: growth", {.command = kByInt, .tripped = PG_MEMORY_GROWTH}, kDistinct, 121},
    {"distinct before 137",
     {.command = kByKill, .tripped = PG_CPU, .killed = true},
     kDistinct,
     120},
    {"not found", {.exec_error = ENOENT}, {}, 127},
    {"not executable", {.exec_error = EACCES}, {}, 126},
    {"a part of its path is no directory", {.exec_error = ENOTDIR}, {}, 126},
    {"exec errors before the switches", {.exec_error = ENOENT}, kBoth, 127},
    {"our own failure before all",
     {.failed = true, .exec_error = ENOENT, .tripped = PG_CPU, .killed = true},
     kBoth,
     125},
};

TEST(Verdict, ExitStatus) {
  for (const Row& row : kRows) {
    EXPECT_EQ(exit_status(row.ending, row.options), row.expected) << row.description;
  }
}

}  // namespace
}  // namespace procguard::cli
