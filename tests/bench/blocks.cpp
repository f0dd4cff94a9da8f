// SPDX-License-Identifier: Apache-2.0
// What guards of blocks cost the program: entering, leaving and progress, beside one reading of the
// clock, which they cannot do without; and how far memory gets that grows at full speed under one.
// The same for Python is measured by blocks.py.
#include <sys/mman.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "procguard/procguard.hpp"
#include "sys/procfs.h"
#include "tests/bench/concepts.h"
#include "tests/bench/samples.h"

namespace procguard::bench {
namespace {

using namespace procguard::literals;

constexpr int kBestOf = 9;
constexpr std::size_t kPage = 4096;

core::Ns now() {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<core::Ns>(time.tv_sec) * core::kSecond + static_cast<core::Ns>(time.tv_nsec);
}

// The best of some rounds: what disturbs only adds.
template <typename Operation>
double ns_per(int times, const Operation& operation) {
  Samples samples;
  for (int round = 0; round < kBestOf; ++round) {
    const core::Ns begin = now();
    for (int i = 0; i < times; ++i) {
      operation();
    }
    samples.add(static_cast<double>(now() - begin) / times);
  }
  return samples.smallest();
}

void read_statm() {
  static_cast<void>(sys::ProcRoot().rss_bytes(::getpid()));
}

// How much was touched over the limit before the exception came.
double overshoot_kib() {
  constexpr std::size_t kSize = 512UL << 20U;
  constexpr std::size_t kCheckEvery = 64UL << 10U;
  auto* area = static_cast<char*>(
      ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ::madvise(area, kSize, MADV_NOHUGEPAGE);
  std::size_t touched = 0;
  try {
    const auto guard = mem_guard({.max_memory = 16_MiB, .absolute = false});
    const auto block = guard.enter();
    for (; touched < kSize; touched += kPage) {
      area[touched] = 1;
      if (touched % kCheckEvery == 0) {
        checkpoint();
      }
    }
  } catch (const MemoryLimitExceeded&) {
  }
  ::munmap(area, kSize);
  return (static_cast<double>(touched) - static_cast<double>((16_MiB).count)) / 1024;
}

Row time_block(int times, double clock) {
  const auto guard = time_guard({.timeout = std::chrono::hours(1)});
  return {.what = "C++ time guard, enter + leave",
          .ours = ns_per(times, [&] { const auto block = guard.enter(); }),
          .reference = clock,
          .bar = Bar::ratio(12),
          .note = "reference: clock_gettime; Resiliparse (Python) recorded 500.6 ms"};
}

Row memory_block(int times) {
  const auto guard = mem_guard({.max_memory = 1024_GiB});
  const auto first = guard.enter();  // BPF is loaded once
  return {.what = "C++ memory guard, enter + leave",
          .ours = ns_per(times, [&] { const auto block = guard.enter(); }),
          .reference = ns_per(times / 20, read_statm),
          .note = std::string("source ") + procguard_source() + "; reference: a read of statm"};
}

Row progress_row(int times, double clock) {
  auto block = time_guard({.timeout = std::chrono::hours(1)}).enter();
  return {.what = "C++ progress()",
          .ours = ns_per(times, [&] { block.progress(); }),
          .reference = clock,
          .bar = Bar::ratio(1.5),
          .note = "reference: clock_gettime"};
}

Row overshoot_row(int rounds) {
  Samples samples;
  for (int i = 0; i < rounds; ++i) {
    samples.add(overshoot_kib());
  }
  return {.what = "C++ overshoot, +16 MiB",
          .unit = Unit::kKibibytes,
          .ours = samples.largest(),
          .bar = Bar::at_most(1024),
          .note = "max of " + std::to_string(rounds) +
                  "; checkpoint() every 64 KiB; Resiliparse (Python) recorded 676 MiB"};
}

struct Closer {
  void operator()(std::FILE* pipe) const { ::pclose(pipe); }
};

Row row_of(const nlohmann::json& line) {
  Row row{.what = line.at("what"), .ours = line.at("ours"), .note = line.value("note", "")};
  row.unit = line.value("unit", "ns") == "KiB" ? Unit::kKibibytes : Unit::kNanoseconds;
  if (line.contains("reference")) {
    row.reference = line.at("reference").get<double>();
  }
  if (line.contains("ratio")) {
    row.bar = Bar::ratio(line.at("ratio"));
  } else if (line.contains("at_most")) {
    row.bar = Bar::at_most(line.at("at_most"));
  }
  row.held_by = line.value("held_by", "");
  return row;
}

}  // namespace

Result<Rows> measure_blocks(const Settings& settings) {
  const int times = settings.rounds(1'000'000, 100'000);
  const double clock = ns_per(times, [] { static_cast<void>(now()); });
  Rows rows{time_block(times, clock), progress_row(times, clock), memory_block(times)};
  rows.push_back(overshoot_row(settings.rounds(25, 5)));
  return rows;
}

Result<Rows> measure_python(const Settings& settings) {
  const std::string build = settings.procguard.substr(0, settings.procguard.rfind('/'));
  const std::string command = "PYTHONPATH='" + build + "/python' /usr/bin/python3 " +
                              "tests/bench/blocks.py" + (settings.quick ? " --quick" : "");
  const std::unique_ptr<std::FILE, Closer> pipe(::popen(command.c_str(), "re"));
  if (!pipe) {
    return Error::system(command, errno);
  }
  Rows rows;
  std::array<char, 1024> line{};
  while (std::fgets(line.data(), line.size(), pipe.get()) != nullptr) {
    const auto parsed = nlohmann::json::parse(line.data(), nullptr, false);
    if (parsed.is_discarded()) {
      return Error(command + ": " + line.data());
    }
    rows.push_back(row_of(parsed));
  }
  if (rows.empty()) {
    return Error(command + ": printed no row");
  }
  return rows;
}

}  // namespace procguard::bench
