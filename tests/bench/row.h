// SPDX-License-Identifier: Apache-2.0
// Row: one measured number with what it is compared to, and the bar it has to reach. A bar that is
// not reached is printed with what holds it; it does not fail the run, an unmeasured row does.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/result.h"

namespace procguard::bench {

enum class Unit { kNanoseconds, kKibibytes, kCount };

struct Bar {
  enum class Kind {
    kNone,     // shown for its own sake
    kRatio,    // ours / reference <= limit
    kAtMost,   // ours <= limit, in the row's unit
    kAtLeast,  // ours >= limit
  };
  Kind kind = Kind::kNone;
  double limit = 0;

  static Bar ratio(double limit) { return {Kind::kRatio, limit}; }
  static Bar at_most(double limit) { return {Kind::kAtMost, limit}; }
  static Bar at_least(double limit) { return {Kind::kAtLeast, limit}; }
};

struct Row {
  std::string what;
  Unit unit = Unit::kNanoseconds;
  double ours = 0;
  std::optional<double> reference = {};  // of a bare program, measured in the same run
  Bar bar = {};
  std::string note = {};     // what else was seen
  std::string held_by = {};  // printed if the bar is not met: what holds it
};
using Rows = std::vector<Row>;

// Nothing where there is no bar.
std::optional<bool> met(const Row& row);
std::optional<double> ratio(const Row& row);

// How much to measure, and with what.
struct Settings {
  bool quick = false;
  std::string procguard;  // the binary

  int rounds(int full, int in_quick) const { return quick ? in_quick : full; }
};

// What is measured together, one file each. An error: it could not be measured, and why.
struct Concept {
  const char* name;
  Result<Rows> (*measure)(const Settings& settings);
};

}  // namespace procguard::bench
