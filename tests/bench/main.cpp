// SPDX-License-Identifier: Apache-2.0
// bench: measures what there are bars for, prints one table, writes JSON. Status 0: all was
// measured, whether the bars were met or not; 1: some was not, or the JSON could not be written;
// 2: wrong usage. How to read it: README.md beside this file.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "tests/bench/concepts.h"
#include "tests/bench/report.h"

namespace {

using namespace procguard::bench;

constexpr Concept kConcepts[] = {
    {"crossing", measure_crossing}, {"overshoot", measure_overshoot},
    {"lateness", measure_lateness}, {"hooks", measure_hooks},
    {"load", measure_load},         {"start", measure_start},
    {"idle", measure_idle},         {"blocks", measure_blocks},
    {"agent", measure_agent},       {"python", measure_python},
};

struct Arguments {
  Settings settings;
  std::string json;
  std::vector<std::string> only;
};

void print(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
}

bool wanted(const Arguments& arguments, const std::string& name) {
  return arguments.only.empty() ||
         std::find(arguments.only.begin(), arguments.only.end(), name) != arguments.only.end();
}

Measured measure(const Concept& one, const Settings& settings) {
  Measured measured{.name = one.name, .rows = {}, .error = {}};
  auto rows = one.measure(settings);
  if (rows) {
    measured.rows = std::move(rows).value();
  } else {
    measured.error = rows.error().message();
  }
  return measured;
}

int run(const Arguments& arguments) {
  const bool quick = arguments.settings.quick;
  const Machine machine = describe_machine();
  const Others others;
  print(machine_text(machine, quick) + header_text());
  std::vector<Measured> all;
  bool complete = true;
  for (const Concept& one : kConcepts) {
    if (wanted(arguments, one.name)) {
      all.push_back(measure(one, arguments.settings));
      print(rows_text(all.back()));
      complete = complete && all.back().error.empty();
    }
  }
  print(summary_text(all, others.share()));
  if (!arguments.json.empty()) {
    std::ofstream file(arguments.json);
    file << json_text(machine, quick, all, others.share());
    file.close();
    if (!file) {
      std::fprintf(stderr, "bench: cannot write %s\n", arguments.json.c_str());
      return 1;
    }
  }
  return complete ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  std::vector<std::string> names;
  for (const Concept& one : kConcepts) {
    names.emplace_back(one.name);
  }
  CLI::App app("Measures procguard side by side with bare programs.", "bench");
  app.add_flag("--quick", arguments.settings.quick, "Few samples: under 40 s");
  app.add_option("--procguard", arguments.settings.procguard, "The procguard binary")->required();
  app.add_option("--json", arguments.json, "Also write the results to this file");
  app.add_option("--only", arguments.only, "Measure these groups only")
      ->delimiter(',')
      ->check(CLI::IsMember(names));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  return run(arguments);
}
