// SPDX-License-Identifier: Apache-2.0
// The results as a table for people and as JSON.
#pragma once

#include <string>
#include <vector>

#include "tests/bench/machine.h"
#include "tests/bench/row.h"

namespace procguard::bench {

struct Measured {
  std::string name;  // of the concept
  Rows rows;
  std::string error;  // why it could not be measured
};

std::string machine_text(const Machine& machine, bool quick);
std::string header_text();
// One line a row; below it, where the bar is not met, what holds it.
std::string rows_text(const Measured& measured);
// `others`: their share of the CPUs during the run.
std::string summary_text(const std::vector<Measured>& all, double others);

// Keys carry units: `ours` and `reference` are in `unit`, one of ns, KiB, count.
std::string json_text(const Machine& machine, bool quick, const std::vector<Measured>& all,
                      double others);

}  // namespace procguard::bench
