// SPDX-License-Identifier: Apache-2.0
// All concepts that are measured, in the order of the table. To add one: a file of its own, a
// declaration here, a line in kConcepts (main.cpp).
#pragma once

#include "tests/bench/row.h"

namespace procguard::bench {

Result<Rows> measure_crossing(const Settings& settings);
Result<Rows> measure_overshoot(const Settings& settings);
Result<Rows> measure_lateness(const Settings& settings);
Result<Rows> measure_hooks(const Settings& settings);
Result<Rows> measure_load(const Settings& settings);
Result<Rows> measure_start(const Settings& settings);
Result<Rows> measure_idle(const Settings& settings);
Result<Rows> measure_blocks(const Settings& settings);
Result<Rows> measure_agent(const Settings& settings);
Result<Rows> measure_python(const Settings& settings);

}  // namespace procguard::bench
