// SPDX-License-Identifier: Apache-2.0
// Time guards as programs see them: blocks, decorators, progress, what is thrown and what is not.
#include <gtest/gtest.h>

#include <future>
#include <list>
#include <memory>

#include "tests/client/guarded.h"
#include "tests/support/processes.h"

namespace procguard::test {
namespace {

constexpr auto kExceptions = InterruptType::exception;

// Code under guard that catches std::exception must not swallow a guard's.
static_assert(!std::is_base_of_v<std::exception, GuardException>);
static_assert(!std::is_base_of_v<std::exception, ExecutionTimeout>);
static_assert(!std::is_base_of_v<std::exception, MemoryLimitExceeded>);
static_assert(std::is_base_of_v<GuardException, ExecutionTimeout>);
static_assert(std::is_base_of_v<GuardException, MemoryLimitExceeded>);
static_assert(!std::is_copy_constructible_v<Block> && std::is_nothrow_move_constructible_v<Block>);

TEST(ClientTimeout, ProgressThrowsOnceTheTimeIsOver) {
  const TimeGuard guard = time_guard({.timeout = 30ms, .interrupt_type = kExceptions});
  const auto begin = Clock::now();
  try {
    Block block = guard.enter();
    // Each progress starts the time anew: without a pause there is no end to this.
    for (int i = 0; i < 10'000; ++i) {
      block.progress();
    }
    std::this_thread::sleep_for(60ms);
    while (Clock::now() < begin + kPatience) {
      block.progress();
    }
    FAIL() << "nothing was thrown";
  } catch (const ExecutionTimeout& timeout) {
    EXPECT_STREQ(timeout.what(), "execution timeout");
    EXPECT_EQ(timeout.guard(), guard.id());
    EXPECT_EQ(timeout.trip().resource, Resource::timeout);
    EXPECT_EQ(timeout.trip().step, 0U);
    EXPECT_EQ(timeout.trip().signal, 0);
    EXPECT_FALSE(timeout.trip().last);
    EXPECT_EQ(timeout.trip().limit, 30'000'000U);
    EXPECT_GE(timeout.trip().observed, 30'000'000U);
    EXPECT_GE(timeout.trip().elapsed, 30ms);
    EXPECT_LE(timeout.trip().elapsed, Clock::now() - begin);
  }
}

TEST(ClientTimeout, IsNotSwallowedByThoseWhoCatchStandardExceptions) {
  const TimeGuard guard = time_guard({.timeout = 1ms, .interrupt_type = kExceptions});
  bool swallowed = false;
  const auto careless = [&] {
    try {
      sleep_for(kPatience);
    } catch (const std::exception&) {
      swallowed = true;
    }
  };
  EXPECT_THROW(guard(careless)(), ExecutionTimeout);
  EXPECT_FALSE(swallowed);
}

TEST(ClientTimeout, ATimeoutOfZeroFiresAtOnce) {
  const TimeGuard guard = time_guard({.timeout = 0ms, .interrupt_type = kExceptions});
  const Block block = guard.enter();
  EXPECT_EQ(wait_for<ExecutionTimeout>().step, 0U);
}

TEST(ClientTimeout, AGraceOfZeroIsTenMilliseconds) {
  const TimeGuard guard =
      time_guard({.timeout = 20ms, .grace_period = 0ms, .interrupt_type = kExceptions});
  const Block block = guard.enter();
  for (const Trip& trip : wait_for_last<ExecutionTimeout>()) {
    EXPECT_GE(trip.elapsed, 20ms + trip.step * 10ms);
    EXPECT_EQ(trip.last, trip.step == 2);
  }
  EXPECT_TRUE(quiet_for(50ms));
}

TEST(ClientTimeout, ProgressAfterAStepBeginsAtTheFootAgain) {
  const TimeGuard guard =
      time_guard({.timeout = 20ms, .grace_period = 1h, .interrupt_type = kExceptions});
  Block block = guard.enter();
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(wait_for<ExecutionTimeout>().step, 0U);
    EXPECT_TRUE(quiet_for(50ms));  // the monitor has settled on the next step
    block.progress();              // the exception was taken up: this one counts
  }
}

TEST(ClientTimeout, ProgressAfterTheLastStepDoesNothing) {
  const TimeGuard guard =
      time_guard({.timeout = 5ms, .grace_period = 10ms, .interrupt_type = kExceptions});
  Block block = guard.enter();
  wait_for_last<ExecutionTimeout>();
  block.progress();
  EXPECT_TRUE(quiet_for(100ms));
}

TEST(ClientTimeout, WhatWasNotThrownIsWithdrawn) {
  const TimeGuard guard =
      time_guard({.timeout = 5ms, .grace_period = 1h, .interrupt_type = kExceptions});
  EXPECT_FALSE(guard.last_trip().has_value());
  {
    const Block block = guard.enter();
    ASSERT_TRUE(wait_until([&] { return guard.last_trip().has_value(); }));
    EXPECT_FALSE(guard.last_trip()->withdrawn);
  }
  EXPECT_TRUE(quiet_for(20ms));
  ASSERT_TRUE(guard.last_trip().has_value());
  EXPECT_TRUE(guard.last_trip()->withdrawn);
  EXPECT_EQ(guard.last_trip()->guard, guard.id());
  EXPECT_EQ(guard.last_trip()->step, 0U);
  {
    const Block block = guard.enter();
    wait_for<ExecutionTimeout>();
  }
  EXPECT_FALSE(guard.last_trip()->withdrawn);  // that one was thrown
}

TEST(ClientTimeout, NothingComesBeforeTheTimeNorAfterTheBlock) {
  const TimeGuard guard = time_guard({.timeout = 1s, .interrupt_type = kExceptions});
  for (int i = 0; i < 3; ++i) {
    const auto begin = Clock::now();
    Block block = guard.enter();
    EXPECT_TRUE(block.entered());
    while (Clock::now() < begin + 50ms) {
      checkpoint();
    }
    block.leave();
    EXPECT_FALSE(block.entered());
    block.leave();     // does nothing
    block.progress();  // neither does this
  }
  EXPECT_TRUE(quiet_for(1100ms));
  EXPECT_FALSE(guard.last_trip().has_value());
}

TEST(ClientTimeout, BlocksMove) {
  const TimeGuard guard = time_guard({.timeout = 20ms, .interrupt_type = kExceptions});
  Block outer;
  EXPECT_FALSE(outer.entered());
  {
    Block inner = guard.enter();
    outer = std::move(inner);
  }
  EXPECT_TRUE(outer.entered());
  EXPECT_EQ(wait_for<ExecutionTimeout>().guard, guard.id());
  outer = Block();
  EXPECT_FALSE(outer.entered());
}

TEST(ClientTimeout, CopiesAreTheSameGuard) {
  const TimeGuard guard = time_guard({.timeout = 1h});
  const TimeGuard copy = guard;
  EXPECT_EQ(copy.id(), guard.id());
  EXPECT_NE(time_guard().id(), guard.id());
}

TEST(ClientTimeout, ABlockOutlivesItsGuard) {
  auto guard =
      std::make_unique<TimeGuard>(TimeOptions{.timeout = 20ms, .interrupt_type = kExceptions});
  const std::uint64_t id = guard->id();
  const Block block = guard->enter();
  guard.reset();
  EXPECT_EQ(wait_for<ExecutionTimeout>().guard, id);
}

TEST(ClientTimeout, BadOptionsAreInvalidArguments) {
  const auto message = [](const auto& make) -> std::string {
    try {
      make();
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_EQ(message([] { time_guard({.timeout = -1ms}); }), "timeout: negative");
  EXPECT_EQ(message([] { time_guard({.grace_period = -1ms}); }), "grace_period: negative");
  EXPECT_EQ(message([] { time_guard({.check_interval = -1ms}); }), "check_interval: negative");
  EXPECT_EQ(message([] { time_guard({.timeout = 24h * 366 * 101}); }),
            "timeout: longer than 100 years");
  EXPECT_EQ(message([] { mem_guard({.max_memory = {UINT64_MAX}}); }),
            "max_memory: more than 4 EiB");
  EXPECT_EQ(message([] { mem_guard({.max_memory = 1_MiB, .grace_period = -1ms}); }),
            "grace_period: negative");
  EXPECT_EQ(message([] { mem_guard({.max_memory = 1_MiB, .secondary_grace_period = -1ms}); }),
            "secondary_grace_period: negative");
}

// --- decorators ---------------------------------------------------------------------------------

int add(int a, int b) {
  return a + b;
}

struct Counter {
  int count = 0;
  int& next() { return ++count; }
};

TEST(ClientDecorator, PassesArgumentsAndResults) {
  const TimeGuard guard = time_guard({.timeout = 1h});
  EXPECT_EQ(guard(add)(2, 3), 5);
  auto moved = guard([](std::unique_ptr<int> value) { return value; })(std::make_unique<int>(7));
  EXPECT_EQ(*moved, 7);
  Counter counter;
  int& count = guard(&Counter::next)(counter);  // a reference stays one
  EXPECT_EQ(&count, &counter.count);
  auto stateful = guard([n = 0]() mutable { return ++n; });
  stateful();
  EXPECT_EQ(stateful(), 2);
  EXPECT_EQ(time_guard({.timeout = 10s})(add)(1, 1), 2);
  EXPECT_EQ(mem_guard({.max_memory = 64_GiB})(add)(1, 2), 3);
}

TEST(ClientDecorator, GuardsEachCall) {
  auto guarded = time_guard({.timeout = 30ms, .interrupt_type = kExceptions})(
      [](std::chrono::milliseconds time) { sleep_for(time); });
  for (int i = 0; i < 3; ++i) {
    EXPECT_NO_THROW(guarded(1ms));
    EXPECT_THROW(guarded(kPatience), ExecutionTimeout);
  }
  EXPECT_TRUE(quiet_for(50ms));
}

TEST(ClientDecorator, ReportsProgress) {
  auto guarded = time_guard({.timeout = 1s, .interrupt_type = kExceptions})([](auto& self) {
    for (int i = 0; i < 15; ++i) {
      sleep_for(100ms);
      self.progress();
    }
  });
  EXPECT_NO_THROW(guarded(guarded));  // 1.5 s in all
}

TEST(ClientDecorator, LeavesWhenTheFunctionThrows) {
  const TimeGuard guard = time_guard({.timeout = 500ms, .interrupt_type = kExceptions});
  EXPECT_THROW(guard([] { throw std::logic_error("mine"); })(), std::logic_error);
  EXPECT_TRUE(quiet_for(600ms));
  EXPECT_FALSE(guard.last_trip().has_value());
}

// --- progress -----------------------------------------------------------------------------------

TEST(ClientProgress, NeedsATimeGuardAroundIt) {
  EXPECT_THROW(progress(), std::runtime_error);
  const Block memory = mem_guard({.max_memory = 64_GiB}).enter();
  EXPECT_THROW(progress(), std::runtime_error);
  {
    const Block block = time_guard({.timeout = 1h}).enter();
    EXPECT_NO_THROW(progress());
    std::thread([] { EXPECT_THROW(progress(), std::runtime_error); }).join();
  }
  EXPECT_THROW(progress(), std::runtime_error);
}

TEST(ClientProgress, OfAGuardNeverFails) {
  const TimeGuard guard = time_guard({.timeout = 1h});
  EXPECT_NO_THROW(guard.progress());
  { const Block block = guard.enter(); }
  EXPECT_NO_THROW(guard.progress());
}

TEST(ClientProgress, IsForTheInnermostTimeGuard) {
  const TimeGuard slow = time_guard({.timeout = 300ms, .interrupt_type = kExceptions});
  const TimeGuard quick = time_guard({.timeout = 100ms, .interrupt_type = kExceptions});
  const Block outer = slow.enter();
  const Block inner = quick.enter();
  const Block memory = mem_guard({.max_memory = 64_GiB}).enter();  // has no part in it
  try {
    for (;;) {
      sleep_for(1ms);
      progress();
    }
  } catch (const ExecutionTimeout& timeout) {
    if (timeout.guard() == slow.id()) {
      EXPECT_GE(timeout.trip().elapsed, 300ms);
    }  // else the machine stood still for 100 ms
  }
}

TEST(ClientProgress, FromAnotherThread) {
  const TimeGuard guard = time_guard({.timeout = 300ms, .interrupt_type = kExceptions});
  // By the block, and by the guard: without a block in the thread that reports it is for all.
  for (const bool by_block : {true, false}) {
    Block block = guard.enter();
    const auto begin = Clock::now();
    std::jthread reporter([&](const std::stop_token& stop) {
      while (!stop.stop_requested() && Clock::now() < begin + 700ms) {
        by_block ? block.progress() : guard.progress();
        std::this_thread::sleep_for(1ms);
      }
    });
    const Trip trip = wait_for<ExecutionTimeout>();
    reporter.request_stop();
    // Unless the machine stood still, progress was made for 0.7 s.
    EXPECT_GE(trip.elapsed, 300ms);
    EXPECT_GE(trip.observed, 300'000'000U);
    EXPECT_LT(trip.observed, static_cast<std::uint64_t>(trip.elapsed.count()));
  }
}

TEST(ClientProgress, LoopIsLazyAndReportsAfterEachItem) {
  const TimeGuard guard = time_guard({.timeout = 1h});
  // An input range that writes down when it is asked.
  struct Source {
    std::string* log;
    struct Iterator {
      std::string* log;
      int at;
      int operator*() const {
        *log += "get" + std::to_string(at) + " ";
        return at;
      }
      Iterator& operator++() {
        *log += "next ";
        ++at;
        return *this;
      }
      bool operator!=(const Iterator& other) const { return at != other.at; }
    };
    Iterator begin() const { return {log, 0}; }
    Iterator end() const { return {log, 3}; }
  };
  std::string log;
  const Block block = guard.enter();
  auto loop = progress_loop(Source{&log});
  EXPECT_EQ(log, "");
  for (const int item : loop) {
    log += "body" + std::to_string(item) + " ";
  }
  EXPECT_EQ(log, "get0 body0 next get1 body1 next get2 body2 next ");
}

TEST(ClientProgress, LoopReports) {
  const TimeGuard guard =
      time_guard({.timeout = 1s, .grace_period = 1h, .interrupt_type = kExceptions});
  const Block block = guard.enter();
  std::list<int> items(20, 1);
  int sum = 0;
  for (int& item : progress_loop(items)) {  // 1.4 s in all
    std::this_thread::sleep_for(70ms);
    sum += item;
    item = 0;  // the items themselves, not copies
  }
  EXPECT_EQ(sum, 20);
  EXPECT_EQ(items.front(), 0);
  // The report comes after the item: one that takes too long is told so.
  int bodies = 0;
  EXPECT_THROW(
      {
        for (const int item : progress_loop(std::vector<int>{1, 2, 3})) {
          bodies += item > 0 ? 1 : 0;
          std::this_thread::sleep_for(1100ms);
        }
      },
      ExecutionTimeout);
  EXPECT_EQ(bodies, 1);
  for (const int item : progress_loop(std::vector<int>{})) {
    FAIL() << item;
  }
}

TEST(ClientProgress, LoopWithoutAGuardIsAnError) {
  int bodies = 0;
  EXPECT_THROW(
      {
        for (const int item : progress_loop(std::vector<int>{1, 2})) {
          bodies += item;
        }
      },
      std::runtime_error);
  EXPECT_EQ(bodies, 1);  // it is lazy
}

}  // namespace
}  // namespace procguard::test
