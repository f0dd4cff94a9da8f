// SPDX-License-Identifier: Apache-2.0
// How far a process that grows at full speed gets beyond its memory limit before SIGKILL ends it,
// by what /proc says of the address space that it leaves behind.
#include <csignal>
#include <functional>
#include <string>

#include "tests/bench/bare.h"
#include "tests/bench/concepts.h"
#include "tests/bench/grower.h"
#include "tests/bench/guarding.h"
#include "tests/bench/samples.h"

namespace procguard::bench {
namespace {

constexpr std::uint64_t kGrowth = 16U << 20;
constexpr double kKib = 1024;

// Guards the grower, whose RSS is `base` now, at base + kGrowth, lets it go, and returns when it
// has been signalled.
using Path = std::function<Result<void>(Grower&, const Resident& base)>;

Result<void> by_bare(BareCrossing& bare, Grower& grower, const Resident& base) {
  bare.arm(grower.pid(), grower.pidfd(), SIGKILL, base.anon_bytes + kGrowth);
  if (auto gone = grower.go(); !gone) {
    return gone;
  }
  auto crossed = bare.signal_at_crossing();
  bare.disarm();
  return crossed ? Result<void>() : crossed.error();
}

Result<void> by_ours(Guarding& ours, Grower& grower, const Resident& base) {
  core::GuardSpec spec;
  spec.name = "bench";
  spec.memory_bytes = base.total_bytes + kGrowth;
  spec.ladder = one_step(SIGKILL);
  if (auto armed = ours.arm(spec, grower.pid()); !armed) {
    return armed;
  }
  if (auto gone = grower.go(); !gone) {
    return gone;
  }
  auto ran = ours.run_until([&] { return ours.steps() == 1; });
  ours.release();
  return ran;
}

// KiB over the limit, once a round.
Result<Samples> overshoot(const Path& path, Pages pages, int threads, int rounds) {
  Samples samples;
  for (int round = 0; round < rounds; round++) {
    auto grower = Grower::start(pages, threads);
    if (!grower) {
      return grower.error();
    }
    Grower& one = *grower.value();
    auto base = one.resident();
    if (!base) {
      return base.error();
    }
    if (auto taken = path(one, base.value()); !taken) {
      return taken.error();
    }
    if (auto dead = one.wait_for_death(); !dead) {
      return dead.error();
    }
    auto now = one.resident();
    if (!now) {
      return now.error();
    }
    samples.add(
        (static_cast<double>(now->total_bytes) - static_cast<double>(base->total_bytes + kGrowth)) /
        kKib);
  }
  return samples;
}

std::string spread(const Samples& samples) {
  return "max of " + std::to_string(samples.count()) + "; p50 " +
         std::to_string(static_cast<long>(samples.median())) + " KiB";
}

struct Kind {
  const char* name;
  Pages pages;
  int threads;
  double folio_kib;  // the most that one fault maps
};
constexpr Kind kKinds[] = {{"anon, 1 thread", Pages::kAnon, 1, 4},
                           {"anon, 4 threads", Pages::kAnon, 4, 4},
                           {"shmem, 4 threads", Pages::kShmem, 4, 4},
                           {"cached file, 4 threads", Pages::kFile, 4, 2048},
                           {"huge pages, 4 threads", Pages::kHuge, 4, 2048}};

Result<void> add_kernel_rows(Rows& rows, const Settings& settings) {
  auto ours = Guarding::create(true);
  if (!ours) {
    return ours.error();
  }
  const Path path = [&](Grower& grower, const Resident& base) {
    return by_ours(*ours.value(), grower, base);
  };
  for (const Kind& kind : kKinds) {
    auto samples = overshoot(path, kind.pages, kind.threads, settings.rounds(25, 5));
    if (!samples) {
      return samples.error().in(kind.name);
    }
    rows.push_back({.what = std::string("overshoot, kernel step, ") + kind.name,
                    .unit = Unit::kKibibytes,
                    .ours = samples->largest(),
                    .bar = Bar::at_most(64 + kind.folio_kib * kind.threads),
                    .note = spread(samples.value()),
                    .held_by = "threads on other CPUs run on until the signal reaches them"});
  }
  return {};
}

Result<void> add_user_space_row(Rows& rows, const Settings& settings) {
  auto ours = Guarding::create(false);
  auto bare = BareCrossing::create();
  if (!ours || !bare) {
    return ours ? bare.error() : ours.error();
  }
  const int rounds = settings.rounds(100, 20);
  auto bare_samples = overshoot(
      [&](Grower& grower, const Resident& base) { return by_bare(*bare.value(), grower, base); },
      Pages::kAnon, 1, rounds);
  auto our_samples = overshoot(
      [&](Grower& grower, const Resident& base) { return by_ours(*ours.value(), grower, base); },
      Pages::kAnon, 1, rounds);
  if (!bare_samples || !our_samples) {
    return bare_samples ? our_samples.error() : bare_samples.error();
  }
  rows.push_back({.what = "overshoot, user space, anon, 1 thread",
                  .unit = Unit::kKibibytes,
                  .ours = our_samples->largest(),
                  .reference = bare_samples->largest(),
                  .bar = Bar::at_most(512),
                  .note = spread(our_samples.value()),
                  .held_by = "the time until the loop's thread gets a CPU and has signalled"});
  return {};
}

}  // namespace

Result<Rows> measure_overshoot(const Settings& settings) {
  const Priority priority;
  Rows rows;
  if (auto added = add_kernel_rows(rows, settings); !added) {
    return added.error();
  }
  if (auto added = add_user_space_row(rows, settings); !added) {
    return added.error();
  }
  return rows;
}

}  // namespace procguard::bench
