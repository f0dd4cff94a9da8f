// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/report.h"

#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace procguard::bench {

std::optional<double> ratio(const Row& row) {
  if (!row.reference || *row.reference <= 0) {
    return std::nullopt;
  }
  return row.ours / *row.reference;
}

std::optional<bool> met(const Row& row) {
  switch (row.bar.kind) {
    case Bar::Kind::kNone:
      return std::nullopt;
    case Bar::Kind::kRatio:
      return ratio(row) && *ratio(row) <= row.bar.limit;
    case Bar::Kind::kAtMost:
      return row.ours <= row.bar.limit;
    case Bar::Kind::kAtLeast:
      return row.ours >= row.bar.limit;
  }
  return std::nullopt;
}

namespace {

template <typename... Values>
std::string format(const char* pattern, Values... values) {
  std::array<char, 512> text{};
  std::snprintf(text.data(), text.size(), pattern, values...);
  return text.data();
}

// Three significant digits in the unit that suits.
std::string amount(double value, Unit unit) {
  switch (unit) {
    case Unit::kNanoseconds:
      return value >= 1e6   ? format("%.3g ms", value / 1e6)
             : value >= 1e3 ? format("%.3g us", value / 1e3)
                            : format("%.0f ns", value);
    case Unit::kKibibytes:
      return format("%.0f KiB", value);
    case Unit::kCount:
      return format("%.0f", value);
  }
  return "";
}

std::string bar_text(const Row& row) {
  switch (row.bar.kind) {
    case Bar::Kind::kNone:
      return "-";
    case Bar::Kind::kRatio:
      return format("<= %g x", row.bar.limit);
    case Bar::Kind::kAtMost:
      return "<= " + amount(row.bar.limit, row.unit);
    case Bar::Kind::kAtLeast:
      return ">= " + amount(row.bar.limit, row.unit);
  }
  return "";
}

const char* verdict(const Row& row) {
  const auto reached = met(row);
  return !reached ? "" : *reached ? "ok" : "OVER";
}

const char* unit_name(Unit unit) {
  return unit == Unit::kNanoseconds ? "ns" : unit == Unit::kKibibytes ? "KiB" : "count";
}

constexpr const char* kLine = "%-44s %10s %10s %7s %12s  %-4s  %s\n";

}  // namespace

std::string machine_text(const Machine& machine, bool quick) {
  std::string text = format("%s, %d CPUs, kernel %s, %s\n", machine.cpu.c_str(), machine.cpus,
                            machine.kernel.c_str(), machine.at.c_str());
  text += format("load before the run %.2f, %d others runnable; signals sent at %s%s\n",
                 machine.load_before, machine.runnable_before, machine.loop_priority.c_str(),
                 quick ? "; --quick: few samples" : "");
  if (machine.busy()) {
    text += "The machine is busy with other work: these figures are provisional.\n";
  }
  return text;
}

std::string header_text() {
  return "\n" + format(kLine, "what", "ours", "reference", "ratio", "bar", "", "");
}

std::string rows_text(const Measured& measured) {
  if (!measured.error.empty()) {
    return measured.name + ": NOT MEASURED: " + measured.error + "\n";
  }
  std::string text;
  for (const Row& row : measured.rows) {
    const auto of = ratio(row);
    text += format(kLine, row.what.c_str(), amount(row.ours, row.unit).c_str(),
                   row.reference ? amount(*row.reference, row.unit).c_str() : "-",
                   of ? format("%.2f", *of).c_str() : "-", bar_text(row).c_str(), verdict(row),
                   row.note.c_str());
    if (met(row) == false && !row.held_by.empty()) {
      text += "    held by: " + row.held_by + "\n";
    }
  }
  return text;
}

std::string summary_text(const std::vector<Measured>& all, double others) {
  int ok = 0;
  int over = 0;
  int unmeasured = 0;
  for (const Measured& measured : all) {
    unmeasured += measured.error.empty() ? 0 : 1;
    for (const Row& row : measured.rows) {
      ok += met(row) == true ? 1 : 0;
      over += met(row) == false ? 1 : 0;
    }
  }
  return format("\nbars: %d ok, %d over; %d groups not measured\n", ok, over, unmeasured) +
         format("others used %.0f %% of the CPUs during the run%s\n", others * 100,
                others > kQuiet ? ": these figures are provisional" : "");
}

std::string json_text(const Machine& machine, bool quick, const std::vector<Measured>& all,
                      double others) {
  using Json = nlohmann::ordered_json;
  Json out;
  out["schema"] = "procguard.bench/1";
  out["machine"] = {{"cpu", machine.cpu},
                    {"cpus", machine.cpus},
                    {"kernel", machine.kernel},
                    {"at", machine.at},
                    {"loop_priority", machine.loop_priority},
                    {"load_before", machine.load_before},
                    {"runnable_before", machine.runnable_before},
                    {"others_cpu_share", others},
                    {"provisional", machine.busy() || others > kQuiet}};
  out["quick"] = quick;
  out["rows"] = Json::array();
  out["not_measured"] = Json::object();
  for (const Measured& measured : all) {
    if (!measured.error.empty()) {
      out["not_measured"][measured.name] = measured.error;
    }
    for (const Row& row : measured.rows) {
      const auto of = ratio(row);
      const auto reached = met(row);
      out["rows"].push_back({{"group", measured.name},
                             {"what", row.what},
                             {"unit", unit_name(row.unit)},
                             {"ours", row.ours},
                             {"reference", row.reference ? Json(*row.reference) : Json()},
                             {"ratio", of ? Json(*of) : Json()},
                             {"bar", bar_text(row)},
                             {"met", reached ? Json(*reached) : Json()},
                             {"note", row.note},
                             {"held_by", reached == false ? row.held_by : ""}});
    }
  }
  return out.dump(2) + "\n";
}

}  // namespace procguard::bench
