// SPDX-License-Identifier: Apache-2.0
// What it costs to put procguard before a command that does nothing: whole commands, from before
// their start until they are reaped, in turns.
#include <string>
#include <vector>

#include "tests/bench/command.h"
#include "tests/bench/concepts.h"
#include "tests/bench/samples.h"

namespace procguard::bench {
namespace {

// Medians, by command.
Result<std::vector<double>> medians(const std::vector<Arguments>& commands, int rounds) {
  std::vector<Samples> samples(commands.size());
  for (int round = 0; round < rounds; round++) {
    for (std::size_t i = 0; i < commands.size(); i++) {
      auto taken = time_command(commands[i]);
      if (!taken) {
        return taken.error();
      }
      samples[i].add(static_cast<double>(taken.value()));
    }
  }
  std::vector<double> medians;
  medians.reserve(samples.size());
  for (const Samples& of_one : samples) {
    medians.push_back(of_one.median());
  }
  return medians;
}

}  // namespace

Result<Rows> measure_start(const Settings& settings) {
  const int rounds = settings.rounds(60, 30);
  const std::string& procguard = settings.procguard;
  auto found = medians({{"true"},
                        {procguard, "run", "-t", "1s", "--", "true"},
                        {procguard, "run", "-m", "1G", "--", "true"},
                        {procguard, "run", "--source", "procfs", "-t", "1s", "--", "true"},
                        {procguard, "timeout", "1", "true"},
                        {"/usr/bin/timeout", "1", "true"}},
                       rounds);
  if (!found) {
    return found.error();
  }
  const auto& median = found.value();
  const std::string note = "medians of " + std::to_string(rounds) + ", in turns; reference: true";
  return Rows{{.what = "start, run -t 1s -- true",
               .ours = median[1],
               .reference = median[0],
               .bar = Bar::at_most(60e6),
               .note = note,
               .held_by = "loading the BPF object: libbpf reads the kernel's whole BTF, the kernel "
                          "verifies, and maps are filled before use"},
              {.what = "start, run -m 1G -- true", .ours = median[2], .reference = median[0]},
              {.what = "start, run --source procfs -t 1s -- true",
               .ours = median[3],
               .reference = median[0]},
              {.what = "start, timeout 1 true",
               .ours = median[4],
               .reference = median[5],
               .bar = Bar::ratio(2),
               .note = "reference: GNU's timeout",
               .held_by = "the dynamic linker: libraries that `timeout` does not use"}};
}

}  // namespace procguard::bench
