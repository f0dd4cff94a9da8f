// SPDX-License-Identifier: Apache-2.0
// Waits under guard: those of the library end by themselves, blocking system calls with EINTR.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <ctime>

#include "tests/client/guarded.h"
#include "tests/support/processes.h"

namespace procguard::test {
namespace {

TimeGuard exceptions_after(std::chrono::nanoseconds timeout, std::chrono::nanoseconds grace = 1h) {
  return time_guard(
      {.timeout = timeout, .grace_period = grace, .interrupt_type = InterruptType::exception});
}

TEST(ClientWaits, SleepEndsWithTheException) {
  const TimeGuard guard = exceptions_after(50ms);
  const auto begin = Clock::now();
  EXPECT_THROW(guard([] { sleep_for(1h); })(), ExecutionTimeout);
  EXPECT_GE(Clock::now() - begin, 50ms);
  EXPECT_LT(Clock::now() - begin, kSlack);
}

TEST(ClientWaits, SleepSleepsAsLongAsItShould) {
  const auto begin = Clock::now();
  sleep_for(20ms);  // without any guard
  EXPECT_GE(Clock::now() - begin, 20ms);
  const Block block = exceptions_after(1h).enter();
  const auto inside = Clock::now();
  sleep_for(20ms);
  EXPECT_GE(Clock::now() - inside, 20ms);
  sleep_for(0ms);
  sleep_for(-1s);
  EXPECT_LT(Clock::now() - begin, kSlack);
}

TEST(ClientWaits, SleepIsNotEndedByOtherSignals) {
  const SignalCatcher catcher;
  const TimeGuard guard =
      time_guard({.timeout = 10ms, .grace_period = 10ms, .interrupt_type = InterruptType::signal});
  const Block block = guard.enter();
  const auto begin = Clock::now();
  sleep_for(100ms);
  EXPECT_GE(Clock::now() - begin, 100ms);
  EXPECT_GE(SignalCatcher::count(), 2U);  // two SIGTERMs may arrive as one
}

TEST(ClientWaits, SleepThrowsWhatIsPendingAlready) {
  const TimeGuard guard = exceptions_after(1ms);
  Block block = guard.enter();
  ASSERT_TRUE(wait_until([&] { return block.stop_token().stop_requested(); }));
  EXPECT_THROW(sleep_for(1h), ExecutionTimeout);
}

TEST(ClientWaits, SleepOfAnotherThreadGoesOn) {
  const TimeGuard guard = exceptions_after(10ms);
  std::thread other([] {
    const auto begin = Clock::now();
    sleep_for(100ms);
    EXPECT_GE(Clock::now() - begin, 100ms);
  });
  EXPECT_THROW(guard([] { sleep_for(1h); })(), ExecutionTimeout);
  other.join();
}

// --- conditions ---------------------------------------------------------------------------------

struct Condition {
  std::mutex mutex;
  std::condition_variable_any changed;
  bool done = false;

  void wait_for_it() {
    std::unique_lock lock(mutex);
    procguard::wait(changed, lock, [this] { return done; });
  }
};

TEST(ClientWaits, ConditionEndsWithTheException) {
  const TimeGuard guard = exceptions_after(50ms);
  Condition condition;
  const Block block = guard.enter();
  std::unique_lock lock(condition.mutex);
  try {
    procguard::wait(condition.changed, lock, [] { return false; });
    FAIL() << "it ended by itself";
  } catch (const ExecutionTimeout& timeout) {
    EXPECT_EQ(timeout.guard(), guard.id());
    EXPECT_GE(timeout.trip().elapsed, 50ms);
  }
  EXPECT_TRUE(lock.owns_lock());
}

TEST(ClientWaits, ConditionEndsWhenItIsMet) {
  Condition condition;
  const Block block = exceptions_after(1h).enter();
  std::jthread setter([&] {
    std::this_thread::sleep_for(20ms);
    const std::lock_guard lock(condition.mutex);
    condition.done = true;
    condition.changed.notify_all();
  });
  EXPECT_NO_THROW(condition.wait_for_it());
  EXPECT_TRUE(condition.done);
}

// An inner guard only shortens the outer one's time: in waits, too.
TEST(ClientWaits, ConditionEndsWithTheOuterGuardsException) {
  const TimeGuard outer = exceptions_after(50ms);
  const TimeGuard inner = exceptions_after(1h);
  Condition condition;
  const Block outer_block = outer.enter();
  const Block inner_block = inner.enter();
  try {
    condition.wait_for_it();
    FAIL() << "it ended by itself";
  } catch (const ExecutionTimeout& timeout) {
    EXPECT_EQ(timeout.guard(), outer.id());
  }
}

TEST(ClientWaits, ConditionWaitsOnAfterAnExceptionWasCaught) {
  const TimeGuard guard = exceptions_after(5ms, 15ms);
  for (int round = 0; round < 10; ++round) {
    Condition condition;
    const Block block = guard.enter();
    for (bool last = false; !last;) {
      try {
        condition.wait_for_it();
        FAIL() << "it ended by itself";
      } catch (const ExecutionTimeout& timeout) {
        last = timeout.trip().last;
      }
    }
  }
}

TEST(ClientWaits, ConditionIsNotEndedByOtherThreadsGuards) {
  Condition condition;
  std::atomic<bool> stop{false};
  std::vector<std::thread> others;
  for (int i = 0; i < 4; ++i) {
    others.emplace_back([&] {
      const auto tripping = exceptions_after(1ms)([] { sleep_for(1h); });
      while (!stop) {
        EXPECT_THROW(tripping(), ExecutionTimeout);
      }
    });
  }
  const Block block = exceptions_after(1h).enter();
  std::jthread setter([&] {
    std::this_thread::sleep_for(200ms);
    const std::lock_guard lock(condition.mutex);
    condition.done = true;
    condition.changed.notify_all();
  });
  EXPECT_NO_THROW(condition.wait_for_it());
  EXPECT_TRUE(condition.done);
  stop = true;
  for (std::thread& other : others) {
    other.join();
  }
}

TEST(ClientWaits, ManyThreadsWaitAndEachGetsItsOwn) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 16; ++i) {
    threads.emplace_back([i] {
      Condition condition;
      for (int round = 0; round < 10; ++round) {
        const TimeGuard guard = exceptions_after(1ms * (i + 1));
        const Block block = guard.enter();
        try {
          condition.wait_for_it();
          ADD_FAILURE() << "it ended by itself";
        } catch (const ExecutionTimeout& timeout) {
          EXPECT_EQ(timeout.guard(), guard.id());
        }
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
}

// --- stop tokens --------------------------------------------------------------------------------

TEST(ClientWaits, StopTokenIsStoppedWhenAnExceptionBecomesPending) {
  const TimeGuard guard = exceptions_after(30ms, 500ms);
  Block block = guard.enter();
  const auto begin = Clock::now();
  const std::stop_token first = block.stop_token();
  EXPECT_FALSE(first.stop_requested());
  EXPECT_TRUE(first.stop_possible());
  std::atomic<bool> called{false};
  const std::stop_callback callback(first, [&] { called = true; });
  ASSERT_TRUE(wait_until([&] { return called.load(); }));
  EXPECT_GE(Clock::now() - begin, 30ms);
  EXPECT_TRUE(block.stop_token().stop_requested());  // the same stop
  EXPECT_EQ(wait_for<ExecutionTimeout>().step, 0U);
  // It was taken up; the next exception has a token of its own.
  const std::stop_token second = block.stop_token();
  EXPECT_TRUE(first.stop_requested());
  ASSERT_TRUE(wait_until([&] { return second.stop_requested(); }));
  EXPECT_EQ(wait_for<ExecutionTimeout>().step, 1U);
}

TEST(ClientWaits, StopTokenOfAPendingExceptionIsStopped) {
  const TimeGuard guard = exceptions_after(1ms);
  Block block = guard.enter();
  std::this_thread::sleep_for(1ms);
  while (!guard.last_trip()) {
    std::this_thread::yield();
  }
  ASSERT_TRUE(wait_until([&] { return block.stop_token().stop_requested(); }));
}

TEST(ClientWaits, StopTokenOutlivesItsBlock) {
  const TimeGuard guard = exceptions_after(500ms);
  std::stop_token token;
  {
    Block block = guard.enter();
    token = block.stop_token();
  }
  EXPECT_TRUE(quiet_for(600ms));
  EXPECT_FALSE(token.stop_requested());
}

// A stop callback is the program's own code and may do as it likes.
TEST(ClientWaits, StopCallbackMayUseGuards) {
  const TimeGuard guard = exceptions_after(10ms);
  Block block = guard.enter();
  std::atomic<bool> called{false};
  const std::stop_callback callback(block.stop_token(), [&] {
    Block inner = guard.enter();
    static_cast<void>(inner.stop_token());
    inner.leave();
    called = true;
  });
  EXPECT_TRUE(wait_until([&] { return called.load(); }));
}

TEST(ClientWaits, StopTokenForCodeThatPrefersIt) {
  const TimeGuard guard = exceptions_after(30ms);
  Condition condition;
  Block block = guard.enter();
  std::unique_lock lock(condition.mutex);
  EXPECT_FALSE(condition.changed.wait(lock, block.stop_token(), [&] { return condition.done; }));
  EXPECT_THROW(checkpoint(), ExecutionTimeout);
}

// --- system calls -------------------------------------------------------------------------------

class Pipe {
 public:
  Pipe() { EXPECT_EQ(::pipe(ends_), 0); }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  ~Pipe() {
    ::close(ends_[0]);
    ::close(ends_[1]);
  }
  int to_read() const { return ends_[0]; }

 private:
  int ends_[2] = {-1, -1};
};

TEST(ClientWaits, ReadEndsWithEintr) {
  const Pipe pipe;
  const TimeGuard guard = exceptions_after(30ms, 30ms);
  const auto body = [&] {
    const Block block = guard.enter();
    for (bool last = false; !last;) {
      char byte = 0;
      errno = 0;
      EXPECT_EQ(::read(pipe.to_read(), &byte, 1), -1);
      EXPECT_EQ(errno, EINTR);
      try {
        checkpoint();  // the step before may have broken the call once more than needed
      } catch (const ExecutionTimeout& timeout) {
        last = timeout.trip().last;
      }
    }
  };
  body();
  std::thread(body).join();
}

// The exception may come a moment before the call blocks: it is broken again.
TEST(ClientWaits, ReadEndsWithEintrThoughTheExceptionCameBefore) {
  const Pipe pipe;
  const TimeGuard guard = exceptions_after(1ms);
  for (int round = 0; round < 5; ++round) {
    Block block = guard.enter();
    ASSERT_TRUE(wait_until([&] { return block.stop_token().stop_requested(); }));
    std::this_thread::sleep_for(5ms);  // the first signal is through
    char byte = 0;
    EXPECT_EQ(::read(pipe.to_read(), &byte, 1), -1);
    EXPECT_EQ(errno, EINTR);
    EXPECT_THROW(checkpoint(), ExecutionTimeout);
  }
}

TEST(ClientWaits, NanosleepEndsWithEintr) {
  const TimeGuard guard = exceptions_after(30ms);
  const auto begin = Clock::now();
  const Block block = guard.enter();
  timespec time{3600, 0};
  EXPECT_EQ(::nanosleep(&time, &time), -1);
  EXPECT_EQ(errno, EINTR);
  EXPECT_GE(Clock::now() - begin, 30ms);
  EXPECT_THROW(checkpoint(), ExecutionTimeout);
}

TEST(ClientWaits, SignalStepsReachBlockedThreads) {
  const SignalCatcher catcher;
  const Pipe pipe;
  const TimeGuard guard =
      time_guard({.timeout = 30ms, .grace_period = 1h, .interrupt_type = InterruptType::signal});
  const Block block = guard.enter();
  timespec time{3600, 0};
  EXPECT_EQ(::nanosleep(&time, &time), -1);
  EXPECT_EQ(errno, EINTR);
  ASSERT_GE(SignalCatcher::count(), 1U);
  EXPECT_EQ(SignalCatcher::caught()[0].signal, SIGINT);
  EXPECT_EQ(SignalCatcher::caught()[0].tid, ::gettid());
}

}  // namespace
}  // namespace procguard::test
