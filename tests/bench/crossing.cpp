// SPDX-License-Identifier: Apache-2.0
// From the crossing of a memory limit in the kernel to the signal in the process, through user
// space: source, controller, executor. Beside it the bare way, ring -> epoll -> pidfd. Both run in
// the same thread, both programs stay attached, and they take turns.
#include "tests/bench/bare.h"
#include "tests/bench/concepts.h"
#include "tests/bench/guarding.h"
#include "tests/bench/resident.h"
#include "tests/bench/samples.h"
#include "tests/bench/victim.h"

namespace procguard::bench {
namespace {

constexpr int kRoundsInTurn = 20;
constexpr std::uint64_t kGrowth = 1U << 20;

Result<void> bare_turn(BareCrossing& bare, Victim& victim, Samples& samples) {
  for (int round = 0; round < kRoundsInTurn; round++) {
    auto base = resident(victim.pid());
    if (!base) {
      return base.error();
    }
    bare.arm(victim.pid(), victim.pidfd(), kVictimSignal, base->anon_bytes + kGrowth);
    if (auto gone = victim.go(); !gone) {
      return gone;
    }
    auto crossed = bare.signal_at_crossing();
    auto signalled = victim.signalled_at();
    bare.disarm();
    if (!crossed || !signalled) {
      return crossed ? signalled.error() : crossed.error();
    }
    samples.add(static_cast<double>(signalled.value()) - static_cast<double>(crossed.value()));
  }
  return {};
}

Result<void> our_turn(Guarding& ours, Victim& victim, Samples& samples) {
  auto base = resident(victim.pid());
  if (!base) {
    return base.error();
  }
  core::GuardSpec spec;
  spec.name = "bench";
  spec.scope = PG_SCOPE_TREE;  // as `run` does
  spec.memory_bytes = base->total_bytes + kGrowth;
  spec.ladder = one_step(kVictimSignal);
  if (auto armed = ours.arm(spec, victim.pid()); !armed) {
    return armed;
  }
  for (int round = 1; round <= kRoundsInTurn; round++) {
    if (auto gone = victim.go(); !gone) {
      return gone;
    }
    if (auto ran = ours.run_until([&] { return ours.steps() == round; }); !ran) {
      return ran;
    }
    auto signalled = victim.signalled_at();
    if (!signalled) {
      return signalled.error();
    }
    samples.add(static_cast<double>(signalled.value()) - static_cast<double>(ours.over_since()));
    if (auto ran = ours.run_until([&] { return ours.back_unders() == round; }); !ran) {
      return ran;
    }
  }
  ours.release();
  return {};
}

}  // namespace

Result<Rows> measure_crossing(const Settings& settings) {
  auto ours = Guarding::create(false);
  auto bare = BareCrossing::create();
  auto victim = Victim::start(Work::kTouch);
  if (!ours || !bare || !victim) {
    return !ours ? ours.error() : !bare ? bare.error() : victim.error();
  }
  const Priority priority;
  Samples our_samples;
  Samples bare_samples;
  for (int turn = 0; turn < settings.rounds(30, 6); turn++) {
    if (auto taken = bare_turn(*bare.value(), *victim.value(), bare_samples); !taken) {
      return taken.error();
    }
    if (auto taken = our_turn(*ours.value(), *victim.value(), our_samples); !taken) {
      return taken.error();
    }
  }
  return Rows{{.what = "memory crossing -> signal, user space, p50",
               .ours = our_samples.percentile(50),
               .reference = bare_samples.percentile(50),
               .bar = Bar::ratio(1.5),
               .note = std::to_string(our_samples.count()) + " rounds each",
               .held_by = kBeforeTheSignal},
              {.what = "memory crossing -> signal, user space, p99",
               .ours = our_samples.percentile(99),
               .reference = bare_samples.percentile(99),
               .bar = Bar::ratio(3),
               .held_by = kBeforeTheSignal}};
}

}  // namespace procguard::bench
