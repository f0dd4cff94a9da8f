// SPDX-License-Identifier: Apache-2.0
// Guards in guards, in recursion, and in many threads at once: each exception reaches its own
// thread and names its own guard.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <random>

#include "tests/client/guarded.h"
#include "tests/support/processes.h"

namespace procguard::test {
namespace {

TimeGuard exceptions_after(std::chrono::nanoseconds timeout) {
  return time_guard(
      {.timeout = timeout, .grace_period = 1h, .interrupt_type = InterruptType::exception});
}

TEST(ClientNesting, AnInnerGuardOnlyShortens) {
  const TimeGuard outer = exceptions_after(100ms);
  const TimeGuard longer = exceptions_after(1h);
  const auto begin = Clock::now();
  const Block outer_block = outer.enter();
  const Block inner_block = longer.enter();
  EXPECT_EQ(wait_for<ExecutionTimeout>().guard, outer.id());
  EXPECT_GE(Clock::now(), begin + 100ms);
}

TEST(ClientNesting, AnInnerGuardsExceptionLeavesTheOuterOneAlone) {
  const TimeGuard outer = exceptions_after(2s);
  const TimeGuard inner = exceptions_after(20ms);
  const Block outer_block = outer.enter();
  for (int i = 0; i < 5; ++i) {
    const Block inner_block = inner.enter();
    EXPECT_EQ(wait_for<ExecutionTimeout>().guard, inner.id());
  }
  EXPECT_FALSE(outer.last_trip().has_value());
  const Trip trip = wait_for<ExecutionTimeout>();
  EXPECT_EQ(trip.guard, outer.id());
  EXPECT_GE(trip.elapsed, 2s);
}

TEST(ClientNesting, TheOutermostDueGuardComesFirst) {
  const TimeGuard outer = exceptions_after(20ms);
  const TimeGuard middle = exceptions_after(10ms);
  const TimeGuard inner = exceptions_after(15ms);
  Block outer_block = outer.enter();
  Block middle_block = middle.enter();
  Block inner_block = inner.enter();
  for (Block* block : {&outer_block, &middle_block, &inner_block}) {
    ASSERT_TRUE(wait_until([&] { return block->stop_token().stop_requested(); }));
  }
  for (const TimeGuard* guard : {&outer, &middle, &inner}) {
    EXPECT_EQ(wait_for<ExecutionTimeout>().guard, guard->id());
  }
  EXPECT_TRUE(quiet_for(30ms));
}

TEST(ClientNesting, TimeAndMemoryTogether) {
  const TimeGuard time = exceptions_after(30ms);
  const MemGuard memory = mem_guard({.max_memory = 64_GiB});
  const Block memory_block = memory.enter();
  const Block time_block = time.enter();
  EXPECT_EQ(wait_for<ExecutionTimeout>().guard, time.id());
  EXPECT_FALSE(memory.last_trip().has_value());
}

// Each level of the recursion has a block of its own of the one guard.
TEST(ClientNesting, Recursion) {
  const TimeGuard guard = exceptions_after(100ms);
  std::function<void(int)> deeper;
  int caught = 0;
  const auto level = guard([&](int depth) {
    if (depth > 0) {
      deeper(depth - 1);
    } else {
      sleep_for(kPatience);
    }
  });
  deeper = [&](int depth) {
    try {
      level(depth);
    } catch (const ExecutionTimeout& timeout) {
      EXPECT_EQ(timeout.guard(), guard.id());
      ++caught;
    }
  };
  // All levels were entered within the same moment: each is due.
  deeper(19);
  EXPECT_GE(caught, 1);
  EXPECT_LE(caught, 20);
  EXPECT_TRUE(quiet_for(150ms));
  EXPECT_NO_THROW(guard([] {})());
}

TEST(ClientNesting, ProgressOfTheOuterGuardInsideTheInnerOne) {
  const TimeGuard outer = exceptions_after(1s);
  const TimeGuard inner = exceptions_after(1h);
  Block outer_block = outer.enter();
  const Block inner_block = inner.enter();
  const auto begin = Clock::now();
  while (Clock::now() < begin + 1200ms) {
    sleep_for(10ms);
    outer_block.progress();
  }
  EXPECT_FALSE(outer.last_trip().has_value());
}

// --- many threads -------------------------------------------------------------------------------

constexpr int kThreads = 50;
constexpr int kDepth = 4;  // a guard and three nested ones: 200 guards on one watch
constexpr int kRounds = kSanitized ? 40 : 200;

// One thread's guards, and what went wrong with them.
class Worker {
 public:
  struct Tally {
    std::atomic<long> rounds{0};
    std::atomic<long> thrown{0};
    std::atomic<long> strays{0};
    std::atomic<long> early{0};
  };

  Worker(unsigned seed, Tally& tally) : tally_(tally), random_(seed) {}

  void run() {
    for (int round = 0; round < kRounds; ++round) {
      make_guards();
      enter_and_work(0);
      expect_quiet();
    }
  }

 private:
  std::chrono::microseconds between(int least, int most) {
    return std::chrono::microseconds(std::uniform_int_distribution<int>(least, most)(random_));
  }
  void make_guards() {
    guards_.clear();
    for (int i = 0; i < kDepth; ++i) {
      timeouts_[i] = between(100, 6000);
      guards_.push_back(exceptions_after(timeouts_[i]));
    }
    ++tally_.rounds;
  }
  // Enters the guards one in the other, works inside, and leaves them in turn.
  void enter_and_work(std::size_t depth) {
    const Block block = guards_[depth].enter();
    entered_ = depth + 1;
    if (entered_ < guards_.size()) {
      work();
      enter_and_work(depth + 1);
    }
    work();
    entered_ = depth;
  }
  void work() {
    try {
      switch (random_() % 3) {
        case 0:
          sleep_for(between(0, 2000));
          break;
        case 1:
          std::this_thread::sleep_for(between(0, 1000));
          checkpoint();
          break;
        default:
          for (const auto until = Clock::now() + between(0, 200); Clock::now() < until;) {
            checkpoint();
          }
      }
    } catch (const ExecutionTimeout& timeout) {
      judge(timeout);
    }
  }
  // It must be of a guard of this very round that is entered now.
  void judge(const ExecutionTimeout& timeout) {
    ++tally_.thrown;
    const auto mine =
        std::find_if(guards_.begin(), guards_.begin() + static_cast<std::ptrdiff_t>(entered_),
                     [&](const TimeGuard& guard) { return guard.id() == timeout.guard(); });
    if (mine == guards_.begin() + static_cast<std::ptrdiff_t>(entered_)) {
      ++tally_.strays;
    } else if (timeout.trip().elapsed <
               timeouts_[static_cast<std::size_t>(mine - guards_.begin())]) {
      ++tally_.early;
    }
  }
  void expect_quiet() {
    try {
      checkpoint();
    } catch (const GuardException&) {
      ++tally_.strays;
    }
  }

  Tally& tally_;
  std::mt19937 random_;
  std::vector<TimeGuard> guards_;
  std::chrono::microseconds timeouts_[kDepth]{};
  std::size_t entered_ = 0;
};

TEST(ClientNesting, TwoHundredGuardsInFiftyThreads) {
  const unsigned seed = std::random_device()();
  RecordProperty("seed", std::to_string(seed));
  Worker::Tally tally;
  {
    std::vector<std::jthread> threads;
    for (unsigned i = 0; i < kThreads; ++i) {
      threads.emplace_back([&tally, seed, i] { Worker(seed + i, tally).run(); });
    }
  }
  EXPECT_EQ(tally.rounds, kThreads * kRounds);
  EXPECT_EQ(tally.strays, 0) << "seed " << seed;
  EXPECT_EQ(tally.early, 0) << "seed " << seed;
  EXPECT_GT(tally.thrown, kThreads * kRounds / 10);  // else it shows nothing
  RecordProperty("thrown", std::to_string(tally.thrown));
}

}  // namespace
}  // namespace procguard::test
