// SPDX-License-Identifier: Apache-2.0
// How late a timeout's signal reaches a busy process: the controller in procguard's loop, beside a
// timerfd and pidfd_send_signal. Both run in the same thread and take turns.
#include <sys/timerfd.h>
#include <unistd.h>

#include <cerrno>

#include "sys/pidfd.h"
#include "tests/bench/concepts.h"
#include "tests/bench/guarding.h"
#include "tests/bench/samples.h"
#include "tests/bench/victim.h"

namespace procguard::bench {
namespace {

constexpr int kRoundsInTurn = 10;
constexpr core::Ns kTimeout = 5 * core::kMillisecond;

double late(core::Ns signalled, core::Ns due) {
  return static_cast<double>(signalled) - static_cast<double>(due);
}

// The bare program's whole loop: when the timer was due.
Result<core::Ns> signal_on_time(int timer, const Victim& victim) {
  const core::Ns due = sys::MonotonicClock().now() + kTimeout;
  itimerspec at{};
  at.it_value.tv_sec = static_cast<time_t>(due / core::kSecond);
  at.it_value.tv_nsec = static_cast<long>(due % core::kSecond);
  std::uint64_t expired = 0;
  if (::timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, nullptr) != 0 ||
      ::read(timer, &expired, sizeof(expired)) != sizeof(expired)) {
    return Error::system("waiting for a timerfd", errno);
  }
  if (auto sent = sys::send_signal(victim.pidfd(), kVictimSignal); !sent) {
    return sent.error();
  }
  return due;
}

Result<void> bare_turn(int timer, Victim& victim, Samples& samples) {
  for (int round = 0; round < kRoundsInTurn; round++) {
    if (auto gone = victim.go(); !gone) {
      return gone;
    }
    auto due = signal_on_time(timer, victim);
    auto signalled = victim.signalled_at();
    if (!due || !signalled) {
      return due ? signalled.error() : due.error();
    }
    samples.add(late(signalled.value(), due.value()));
  }
  return {};
}

// Each round begins with progress, which starts the guard's time anew.
Result<void> our_turn(Guarding& ours, Victim& victim, Samples& samples) {
  core::GuardSpec spec;
  spec.name = "bench";
  spec.scope = PG_SCOPE_TREE;  // as `run` does
  spec.timeout_given = true;
  spec.timeout_ns = kTimeout;
  spec.ladder = one_step(kVictimSignal);
  if (auto armed = ours.arm(spec, victim.pid()); !armed) {
    return armed;
  }
  for (int round = 1; round <= kRoundsInTurn; round++) {
    if (auto gone = victim.go(); !gone) {
      return gone;
    }
    ours.progress();
    if (auto ran = ours.run_until([&] { return ours.steps() == round; }); !ran) {
      return ran;
    }
    auto signalled = victim.signalled_at();
    if (!signalled) {
      return signalled.error();
    }
    samples.add(late(signalled.value(), ours.due()));
  }
  ours.release();
  return {};
}

Rows rows(const Samples& ours, const Samples& bare) {
  return {{.what = "timeout lateness, p50",
           .ours = ours.percentile(50),
           .reference = bare.percentile(50),
           .bar = Bar::ratio(1.3),
           .note = std::to_string(ours.count()) + " rounds each",
           .held_by = kBeforeTheSignal},
          {.what = "timeout lateness, p99",
           .ours = ours.percentile(99),
           .reference = bare.percentile(99),
           .bar = Bar::ratio(3),
           .held_by = kBeforeTheSignal},
          {.what = "timeout, the earliest signal is late by",
           .ours = ours.smallest(),
           .reference = bare.smallest(),
           .bar = Bar::at_least(0),
           .note = "never early"}};
}

}  // namespace

Result<Rows> measure_lateness(const Settings& settings) {
  auto ours = Guarding::create(true);
  auto victim = Victim::start(Work::kSpin);
  const sys::Fd timer(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
  if (!ours || !victim || !timer) {
    return !ours ? ours.error() : !victim ? victim.error() : Error::system("timerfd", errno);
  }
  const Priority priority;
  Samples our_samples;
  Samples bare_samples;
  for (int turn = 0; turn < settings.rounds(40, 8); turn++) {
    if (auto taken = bare_turn(timer.get(), *victim.value(), bare_samples); !taken) {
      return taken.error();
    }
    if (auto taken = our_turn(*ours.value(), *victim.value(), our_samples); !taken) {
      return taken.error();
    }
  }
  return rows(our_samples, bare_samples);
}

}  // namespace procguard::bench
