// SPDX-License-Identifier: Apache-2.0
// Runs one command line under the installed GNU timeout and under both names of ours.
#pragma once

#include <array>
#include <functional>
#include <iosfwd>
#include <string>
#include <vector>

#include "tests/support/subprocess.h"

namespace procguard::test {

enum class Timeout {
  kGnu,         // /usr/bin/timeout
  kLink,        // our binary, called as `timeout`
  kSubcommand,  // procguard timeout
};
inline constexpr std::array kOurTimeouts{Timeout::kLink, Timeout::kSubcommand};
inline constexpr std::array kAllTimeouts{Timeout::kGnu, Timeout::kLink, Timeout::kSubcommand};
std::ostream& operator<<(std::ostream& out, Timeout which);

struct TimeoutRun {
  std::vector<std::string> args = {};  // after `timeout`
  // If set, run by sh instead, with "$@" for the wrapper and its args.
  std::string script = {};
  int when_ready = 0;  // signal to the wrapper once the command has printed "ready"
  std::function<void()> before_exec = {};
  std::vector<std::string> env = {"LC_ALL=C"};
  std::string cwd = {};
  bool core = false;  // core dumps, without limit
  bool terminal = false;
  std::string input_when_ready = {};  // typed at the terminal once the command has printed "ready"
};

struct TimeoutOutcome {
  Outcome outcome;       // names of the wrapper in err are replaced by "timeout"
  size_t survivors = 0;  // live processes once the wrapper has ended
};

Command timeout_command(Timeout which, const TimeoutRun& run);

// `survivors`: how many are expected. They are waited for, counted, and ended.
TimeoutOutcome run_timeout(Timeout which, const TimeoutRun& run, size_t survivors = 0);
TimeoutOutcome finish_timeout(Subprocess& process, size_t survivors = 0);

}  // namespace procguard::test
