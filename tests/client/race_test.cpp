// SPDX-License-Identifier: Apache-2.0
// Leaving a block while its step is due: no step begins once leaving has returned. Deadlines lie
// some microseconds from the entry, near where the block is left, a million times.
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <random>

#include "sys/monotonic_clock.h"
#include "tests/client/guarded.h"
#include "tests/support/patrol_driver.h"

namespace procguard::test {
namespace {

constexpr long kCycles = kSanitized ? 100'000 : 1'000'000;
constexpr int kThreads = 4;

// Cheap and good enough.
class Dice {
 public:
  explicit Dice(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15 + 1) {}
  std::uint64_t below(std::uint64_t limit) {
    state_ ^= state_ << 13U;
    state_ ^= state_ >> 7U;
    state_ ^= state_ << 17U;
    return state_ % limit;
  }

 private:
  std::uint64_t state_;
};

void spin(std::chrono::nanoseconds time) {
  for (const auto until = Clock::now() + time; Clock::now() < until;) {
  }
}

void in_threads(const std::function<void(int)>& body) {
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back(body, i);
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
}

GuardPtr guard_after(std::chrono::nanoseconds timeout, procguard_interrupt type) {
  procguard_options options{};
  options.limit = static_cast<std::uint64_t>(timeout.count());
  options.interrupt_type = type;
  options.flags = PROCGUARD_PULL;
  return guard_of(options);
}

// --- entries and a patrol that never rests ------------------------------------------------------

// What a worker's entry says of itself: which generation it is in, 0 outside. It is not outside
// before leaving has returned.
struct Inside {
  std::atomic<std::uint64_t> generation{0};
};

// A step takes a while; its block must be entered all that time.
class Witness : public client::Stepper {
 public:
  pg_result take(client::Entry& entry, const procguard_trip&) override {
    const std::uint64_t generation = client::generation_of(entry.state.load());
    const auto& inside = *static_cast<Inside*>(entry.user);
    for (int i = 0; i < 20; ++i) {
      outside += inside.generation.load() != generation ? 1 : 0;
    }
    ++steps;
    return PG_RESULT_SENT;
  }
  void nudge(client::Entry&) override {}

  std::atomic<long> steps{0};
  std::atomic<long> outside{0};
};

TEST(ClientRace, NoStepOutsideItsBlock) {
  std::vector<GuardPtr> guards;
  for (int i = 0; i < 8; ++i) {
    guards.push_back(guard_after(i * 300ns, PROCGUARD_SIGNAL));
  }
  std::vector<std::unique_ptr<client::Thread>> records;
  for (int i = 0; i < kThreads; ++i) {
    records.push_back(std::make_unique<client::Thread>());
    records.back()->used = true;
    records.back()->next = i == 0 ? nullptr : records[static_cast<std::size_t>(i) - 1].get();
  }
  const sys::MonotonicClock clock;
  Witness witness;
  std::jthread patrolling([&](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      client::patrol(records.back().get(), witness, {}, clock.now());
    }
  });
  in_threads([&](int i) {
    client::Thread& thread = *records[static_cast<std::size_t>(i)];
    Inside inside;
    Dice dice(static_cast<std::uint64_t>(i));
    const auto until = Clock::now() + kPatience;
    // More if need be: few steps show nothing.
    for (long cycle = 0;
         cycle < kCycles / kThreads || (witness.steps < 1000 && Clock::now() < until); ++cycle) {
      client::Entry* entry = thread.free_entry();
      inside.generation = client::generation_of(entry->state.load());
      const procguard_entry handle =
          entry->enter(*guards[dice.below(8)], thread, &inside, clock.now(), 0);
      for (std::uint64_t n = dice.below(kSanitized ? 4000 : 200); n > 0; --n) {
        asm volatile("" ::: "memory");
      }
      PatrolDriver::leave(handle);
      inside.generation = 0;
    }
  });
  patrolling.request_stop();
  patrolling.join();
  EXPECT_EQ(witness.outside, 0);
  EXPECT_GE(witness.steps, 1000);
  RecordProperty("steps", std::to_string(witness.steps));
}

// --- the library as it is -----------------------------------------------------------------------

TEST(ClientRace, NoExceptionAfterLeaving) {
  std::vector<GuardPtr> guards;
  for (int i = 0; i < 8; ++i) {
    guards.push_back(guard_after((i + 1) * 4us, PROCGUARD_EXCEPTION));
  }
  const GuardPtr calm = guard_after(1h, PROCGUARD_EXCEPTION);
  std::atomic<long> strays{0};
  std::atomic<long> withdrawn{0};
  std::atomic<long> taken{0};
  in_threads([&](int thread) {
    Dice dice(static_cast<std::uint64_t>(thread));
    procguard_trip trip;
    for (long cycle = 0; cycle < kCycles / kThreads; ++cycle) {
      procguard_entry entry;
      procguard_enter(guards[dice.below(8)].get(), nullptr, &entry);
      spin(std::chrono::nanoseconds(dice.below(40'000)) / 4);
      taken += procguard_take(&trip);
      withdrawn += (procguard_leave(entry, &trip) & PROCGUARD_WITHDRAWN) != 0 ? 1 : 0;
      strays += procguard_take(&trip);
      // The same slot, another block: what was due is not for it.
      if (dice.below(4) == 0) {
        procguard_enter(calm.get(), nullptr, &entry);
        strays += procguard_is_pending(entry) + procguard_sleep(0);
        strays += procguard_leave(entry, nullptr) != 0 ? 1 : 0;
      }
    }
  });
  EXPECT_EQ(strays, 0);
  EXPECT_GT(withdrawn, 10);
  EXPECT_GT(taken, 100);
  EXPECT_EQ(calm->last_trip.guard, 0U);
  RecordProperty("withdrawn", std::to_string(withdrawn));
  RecordProperty("taken", std::to_string(taken));
}

thread_local volatile std::sig_atomic_t t_signals = 0;

// A signal sent before is there at the end of the next system call. Under ThreadSanitizer handlers
// wait for a function that it knows.
void let_signals_through() {
#ifdef __SANITIZE_THREAD__
  ::usleep(1);
#else
  ::syscall(SYS_gettid);
#endif
}

TEST(ClientRace, NoSignalAfterLeaving) {
  struct sigaction counting {};
  struct sigaction before {};
  counting.sa_handler = [](int) { t_signals = t_signals + 1; };
  ::sigaction(SIGINT, &counting, &before);
  std::vector<GuardPtr> guards;
  for (int i = 0; i < 8; ++i) {
    guards.push_back(guard_after((i + 1) * 4us, PROCGUARD_SIGNAL));
  }
  std::atomic<long> strays{0};
  std::atomic<long> signals{0};
  in_threads([&](int thread) {
    Dice dice(static_cast<std::uint64_t>(thread));
    for (long cycle = 0; cycle < kCycles / 4 / kThreads; ++cycle) {
      procguard_entry entry;
      procguard_enter(guards[dice.below(8)].get(), nullptr, &entry);
      spin(std::chrono::nanoseconds(dice.below(40'000)) / 4);
      const bool signalled = (procguard_leave(entry, nullptr) & PROCGUARD_SIGNALLED) != 0;
      let_signals_through();
      const auto there = t_signals;
      signals += signalled ? 1 : 0;
      if (dice.below(4) == 0) {
        spin(3us);
        let_signals_through();
      }
      strays += t_signals != there ? 1 : 0;
    }
    strays += t_signals < 0 ? 1 : 0;
  });
  ::sigaction(SIGINT, &before, nullptr);
  EXPECT_EQ(strays, 0);
  EXPECT_GT(signals, 100);
  RecordProperty("signals", std::to_string(signals));
}

// Several threads leave the same entry: one of them does.
TEST(ClientRace, OneOfManyLeaves) {
  const GuardPtr guard = guard_after(2us, PROCGUARD_EXCEPTION);
  std::mutex mutex;
  procguard_entry shared{};
  const auto known = [&] {
    const std::lock_guard lock(mutex);
    return shared;
  };
  std::atomic<long> left{0};
  std::atomic<bool> stop{false};
  std::vector<std::thread> others;
  for (int i = 0; i < 2; ++i) {
    others.emplace_back([&] {
      while (!stop) {
        left += procguard_leave(known(), nullptr) >= 0 ? 1 : 0;
        procguard_progress(known());
        procguard_guard_progress(guard.get());
      }
    });
  }
  constexpr long kEntered = kCycles / 20;
  for (long i = 0; i < kEntered; ++i) {
    procguard_entry entry;
    procguard_enter(guard.get(), nullptr, &entry);
    {
      const std::lock_guard lock(mutex);
      shared = entry;
    }
    spin(std::chrono::nanoseconds(500 + i % 2000));
    left += procguard_leave(entry, nullptr) >= 0 ? 1 : 0;
  }
  stop = true;
  for (std::thread& other : others) {
    other.join();
  }
  EXPECT_EQ(left, kEntered);
  procguard_trip trip;
  EXPECT_EQ(procguard_take(&trip), 0);
  EXPECT_EQ(procguard_sleep(0), 0);
}

}  // namespace
}  // namespace procguard::test
