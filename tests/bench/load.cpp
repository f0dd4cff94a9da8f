// SPDX-License-Identifier: Apache-2.0
// What it takes to bring the BPF object into the kernel, and how much the verifier looked at.
#include <algorithm>
#include <string>

#include "engine/bpf_source.h"
#include "sys/monotonic_clock.h"
#include "tests/bench/concepts.h"
#include "tests/bench/own_programs.h"
#include "tests/bench/samples.h"

namespace procguard::bench {
namespace {

Result<Row> load_row(const char* what, const engine::BpfSourceOptions& options, int times) {
  const sys::MonotonicClock clock;
  Samples samples;
  for (int i = 0; i < times; i++) {
    const core::Ns before = clock.now();
    auto source = engine::BpfSource::create(clock, options);
    samples.add(static_cast<double>(clock.now() - before));
    if (!source) {
      return source.error();
    }
  }
  return Row{.what = std::string("load and attach, ") + what,
             .ours = samples.median(),
             .note = "median of " + std::to_string(times)};
}

Result<Row> verified_row() {
  const sys::MonotonicClock clock;
  auto source = engine::BpfSource::create(clock, {.load = {}, .account_memory = true});
  if (!source) {
    return source.error();
  }
  auto programs = own_programs();
  if (!programs) {
    return programs.error();
  }
  std::sort(programs->begin(), programs->end(), [](const auto& a, const auto& b) {
    return a.verified_instructions > b.verified_instructions;
  });
  Row row{.what = "instructions verified, all programs", .unit = Unit::kCount};
  for (const ProgramInfo& program : programs.value()) {
    row.ours += static_cast<double>(program.verified_instructions);
    row.note += (row.note.empty() ? "" : ", ") + program.name + " " +
                std::to_string(program.verified_instructions);
  }
  return row;
}

}  // namespace

Result<Rows> measure_load(const Settings& settings) {
  const int times = settings.rounds(15, 5);
  auto all = load_row("all programs", {.load = {}, .account_memory = true}, times);
  auto time_only =
      load_row("time guard on a tree",
               {.load = {.cgroups = false, .memory = false}, .account_memory = false}, times);
  auto verified = verified_row();
  if (!all || !time_only || !verified) {
    return !all ? all.error() : !time_only ? time_only.error() : verified.error();
  }
  return Rows{all.value(), time_only.value(), verified.value()};
}

}  // namespace procguard::bench
