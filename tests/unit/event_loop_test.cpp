// SPDX-License-Identifier: Apache-2.0
#include "sys/event_loop.h"

#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

#include <cerrno>
#include <string>
#include <vector>

#include "sys/monotonic_clock.h"

namespace procguard::sys {
namespace {

Fd ready_fd() {
  return Fd(::eventfd(1, EFD_CLOEXEC));
}

EventLoop make_loop() {
  auto loop = EventLoop::create();
  EXPECT_TRUE(loop);
  return std::move(loop).value();
}

TEST(EventLoop, CallsTheHandlerOfAReadyFd) {
  EventLoop loop = make_loop();
  const Fd fd = ready_fd();
  std::uint32_t seen = 0;
  ASSERT_TRUE(loop.add(fd.get(), EPOLLIN, [&](std::uint32_t events) { seen = events; }));
  ASSERT_TRUE(loop.run_once());
  EXPECT_EQ(seen, static_cast<std::uint32_t>(EPOLLIN));
}

TEST(EventLoop, RefusesAnFdTwiceAndABadFd) {
  EventLoop loop = make_loop();
  const Fd fd = ready_fd();
  ASSERT_TRUE(loop.add(fd.get(), EPOLLIN, [](std::uint32_t) {}));
  const auto again = loop.add(fd.get(), EPOLLIN, [](std::uint32_t) {});
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code(), EEXIST);
  const auto bad = loop.add(-1, EPOLLIN, [](std::uint32_t) {});
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().code(), EBADF);
}

TEST(EventLoop, AHandlerMayRemoveAnotherWhoseEventIsAlreadyThere) {
  EventLoop loop = make_loop();
  const Fd one = ready_fd();
  const Fd other = ready_fd();
  int calls = 0;
  ASSERT_TRUE(loop.add(one.get(), EPOLLIN, [&](std::uint32_t) {
    ++calls;
    loop.remove(other.get());
  }));
  ASSERT_TRUE(loop.add(other.get(), EPOLLIN, [&](std::uint32_t) {
    ++calls;
    loop.remove(one.get());
  }));
  ASSERT_TRUE(loop.run_once());
  EXPECT_EQ(calls, 1);
}

TEST(EventLoop, AnEventMeantForAClosedFdDoesNotReachItsSuccessor) {
  EventLoop loop = make_loop();
  std::vector<Fd> fds;
  fds.push_back(ready_fd());
  fds.push_back(ready_fd());
  int successor_calls = 0;
  int calls = 0;
  Fd successor;
  // Whichever is called first replaces the other by a new fd with the same number.
  const auto replace = [&](std::size_t other) {
    ++calls;
    const int number = fds[other].get();
    loop.remove(number);
    fds[other].reset();
    successor = Fd(::eventfd(0, EFD_CLOEXEC));  // never ready
    ASSERT_EQ(successor.get(), number);
    ASSERT_TRUE(loop.add(successor.get(), EPOLLIN, [&](std::uint32_t) { ++successor_calls; }));
  };
  ASSERT_TRUE(loop.add(fds[0].get(), EPOLLIN, [&](std::uint32_t) { replace(1); }));
  ASSERT_TRUE(loop.add(fds[1].get(), EPOLLIN, [&](std::uint32_t) { replace(0); }));
  ASSERT_TRUE(loop.run_once());
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(successor_calls, 0);
}

TEST(EventLoop, AHandlerMayRemoveItself) {
  EventLoop loop = make_loop();
  const Fd fd = ready_fd();
  int calls = 0;
  ASSERT_TRUE(loop.add(fd.get(), EPOLLIN, [&, text = std::string(100, 'x')](std::uint32_t) {
    loop.remove(fd.get());
    calls += static_cast<int>(text.size());  // the captures still live
  }));
  ASSERT_TRUE(loop.run_once());
  EXPECT_EQ(calls, 100);
  ASSERT_TRUE(loop.add(fd.get(), EPOLLIN, [](std::uint32_t) {}));
}

TEST(EventLoop, FiresTheTimerOnceAndNotEarly) {
  EventLoop loop = make_loop();
  const MonotonicClock clock;
  const core::Ns due = clock.now() + 20 * core::kMillisecond;
  int fired = 0;
  loop.on_timer([&] {
    ++fired;
    EXPECT_GE(clock.now(), due);
    loop.stop();
  });
  ASSERT_TRUE(loop.set_timer(due));
  ASSERT_TRUE(loop.run());
  EXPECT_EQ(fired, 1);
  // The same time again is a new wish, since the timer has fired.
  const Fd fd = ready_fd();
  ASSERT_TRUE(loop.set_timer(due));
  ASSERT_TRUE(loop.run_once());
  EXPECT_EQ(fired, 2);
}

TEST(EventLoop, ATimeInThePastIsDueAtOnceAndNeverDisarms) {
  for (const core::Ns past : {core::Ns{0}, core::Ns{1}}) {
    EventLoop loop = make_loop();
    int fired = 0;
    loop.on_timer([&] { ++fired; });
    ASSERT_TRUE(loop.set_timer(past));
    ASSERT_TRUE(loop.run_once());
    EXPECT_EQ(fired, 1) << past;

    ASSERT_TRUE(loop.set_timer(past));
    ASSERT_TRUE(loop.set_timer(core::kNever));
    const Fd fd = ready_fd();
    ASSERT_TRUE(loop.add(fd.get(), EPOLLIN, [](std::uint32_t) {}));
    ASSERT_TRUE(loop.run_once());
    EXPECT_EQ(fired, 1) << past;
  }
}

TEST(EventLoop, ASetTimerInAHandlerOfTheSameRoundVoidsTheExpiry) {
  EventLoop loop = make_loop();
  const MonotonicClock clock;
  int fired = 0;
  loop.on_timer([&] { ++fired; });
  const Fd fd = ready_fd();
  int handled = 0;
  ASSERT_TRUE(loop.add(fd.get(), EPOLLIN, [&](std::uint32_t) {
    ++handled;
    ASSERT_TRUE(loop.set_timer(core::kNever));
  }));
  ASSERT_TRUE(loop.set_timer(clock.now() + core::kSecond * 3600));
  ASSERT_TRUE(loop.run_once());
  EXPECT_EQ(handled, 1);
  EXPECT_EQ(fired, 0);
}

TEST(EventLoop, TheTimerHandlerMaySetTheNextTime) {
  EventLoop loop = make_loop();
  const MonotonicClock clock;
  int fired = 0;
  loop.on_timer([&] {
    if (++fired == 3) {
      loop.stop();
      return;
    }
    ASSERT_TRUE(loop.set_timer(clock.now() + core::kMillisecond));
  });
  ASSERT_TRUE(loop.set_timer(clock.now()));
  ASSERT_TRUE(loop.run());
  EXPECT_EQ(fired, 3);
}

// No wake-up of its own: the thread is switched to once for the timer, not in between.
TEST(EventLoop, SleepsForGoodUntilTheDeadline) {
  EventLoop loop = make_loop();
  const MonotonicClock clock;
  loop.on_timer([&] { loop.stop(); });
  ASSERT_TRUE(loop.set_timer(clock.now() + 200 * core::kMillisecond));
  rusage before{};
  rusage after{};
  ASSERT_EQ(::getrusage(RUSAGE_THREAD, &before), 0);
  ASSERT_TRUE(loop.run());
  ASSERT_EQ(::getrusage(RUSAGE_THREAD, &after), 0);
  EXPECT_LE(after.ru_nvcsw - before.ru_nvcsw, 3);
}

}  // namespace
}  // namespace procguard::sys
