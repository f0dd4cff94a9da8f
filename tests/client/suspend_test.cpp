// SPDX-License-Identifier: Apache-2.0
// Entries that pause and go on, perhaps in another thread: what coroutines are guarded by. And
// guards whose exceptions are told to a callback, as interpreters want it.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <iterator>
#include <mutex>

#include "tests/client/guarded.h"
#include "tests/support/patrol_driver.h"
#include "tests/support/processes.h"

namespace procguard::test {
namespace {

// What the callback was told.
struct Told {
  procguard_entry entry;
  procguard_trip trip;
  void* user;
};
std::mutex g_mutex;
// Never destroyed: the library may still tell something when main() has returned.
std::vector<Told>& g_told = *new std::vector<Told>;

void tell(procguard_entry entry, const procguard_trip* trip) {
  void* user = procguard_user(entry);
  const std::lock_guard lock(g_mutex);
  g_told.push_back({entry, *trip, user});
}

// Of this guard: the library may still tell what another test's did.
std::vector<Told> told(const GuardPtr& guard) {
  const std::lock_guard lock(g_mutex);
  std::vector<Told> of_it;
  std::copy_if(g_told.begin(), g_told.end(), std::back_inserter(of_it),
               [&](const Told& one) { return one.trip.guard == guard->id; });
  return of_it;
}

class ClientSuspend : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::lock_guard lock(g_mutex);
    g_told.clear();
  }
  static GuardPtr guard(std::chrono::nanoseconds timeout, std::chrono::nanoseconds grace,
                        procguard_interrupt type) {
    procguard_options options{};
    options.limit = static_cast<std::uint64_t>(timeout.count());
    options.step_grace_ns = static_cast<std::uint64_t>(grace.count());
    options.interrupt_type = type;
    options.deliver = &tell;
    return guard_of(options);
  }
  procguard_entry enter(const GuardPtr& guard) {
    procguard_entry entry{};
    EXPECT_EQ(procguard_enter(guard.get(), this, &entry), 0);
    return entry;
  }
};

TEST_F(ClientSuspend, ExceptionsAreTold) {
  const GuardPtr limit = guard(10ms, 20ms, PROCGUARD_EXCEPTION);
  const procguard_entry entry = enter(limit);
  ASSERT_TRUE(wait_until([&] { return told(limit).size() == 3; }));
  for (std::uint32_t step = 0; step < 3; ++step) {
    const Told one = told(limit)[step];
    EXPECT_EQ(one.entry.slot, entry.slot);
    EXPECT_EQ(one.user, this);
    EXPECT_EQ(one.trip.guard, limit->id);
    EXPECT_EQ(one.trip.step, step);
    EXPECT_GE(one.trip.elapsed_ns, 10'000'000 + step * 20'000'000U);
  }
  procguard_trip trip;
  EXPECT_EQ(procguard_take(&trip), 0);  // it does not pull
  EXPECT_EQ(procguard_take_entry(entry, &trip), 1);
  EXPECT_EQ(trip.step, 2U);
  EXPECT_EQ(procguard_take_entry(entry, &trip), 0);
  EXPECT_EQ(procguard_leave(entry, &trip), 0);
  EXPECT_EQ(procguard_leave(entry, &trip), -1);
}

TEST_F(ClientSuspend, ProgressWithdrawsWhatWasTold) {
  const GuardPtr limit = guard(10ms, 1h, PROCGUARD_EXCEPTION);
  const procguard_entry entry = enter(limit);
  // By its own thread and by another.
  for (std::size_t round = 1; round <= 4; ++round) {
    ASSERT_TRUE(wait_until([&] { return told(limit).size() == round; })) << round;
    int done = 0;
    const auto report = [&] {
      done = round <= 2 ? procguard_progress(entry) : procguard_guard_progress(limit.get());
    };
    round % 2 == 0 ? std::thread(report).join() : report();
    EXPECT_EQ(done, 1) << round;
    EXPECT_EQ(told(limit).back().trip.step, 0U);
    procguard_trip last;
    EXPECT_EQ(procguard_last_trip(limit.get(), &last), 1);
    EXPECT_TRUE(last.withdrawn == 1 || last.at_ns != told(limit).back().trip.at_ns);
  }
  procguard_leave(entry, nullptr);
}

TEST_F(ClientSuspend, TheClockGoesOn) {
  const GuardPtr limit = guard(50ms, 1h, PROCGUARD_EXCEPTION);
  const procguard_entry entry = enter(limit);
  EXPECT_EQ(procguard_suspend(entry), 0);
  EXPECT_EQ(procguard_suspend(entry), -1);
  EXPECT_EQ(procguard_is_entered(entry), 1);
  EXPECT_EQ(procguard_innermost_timeout().slot, nullptr);  // no thread's any more
  ASSERT_TRUE(wait_until([&] { return told(limit).size() == 1; }));
  EXPECT_EQ(procguard_is_pending(entry), 1);
  EXPECT_EQ(procguard_resume(entry), 0);
  EXPECT_EQ(procguard_resume(entry), -1);
  EXPECT_EQ(procguard_innermost_timeout().slot, entry.slot);
  procguard_trip trip;
  EXPECT_EQ(procguard_leave(entry, &trip), PROCGUARD_WITHDRAWN);
  EXPECT_EQ(procguard_suspend(entry), -1);
  EXPECT_EQ(procguard_resume(entry), -1);
}

TEST_F(ClientSuspend, SignalsWaitForWhoResumes) {
  const SignalCatcher catcher;
  const GuardPtr limit = guard(20ms, 1h, PROCGUARD_SIGNAL);
  const procguard_entry entry = enter(limit);
  ASSERT_EQ(procguard_suspend(entry), 0);
  std::this_thread::sleep_for(100ms);
  EXPECT_EQ(SignalCatcher::count(), 0U);
  std::atomic<pid_t> tid{0};
  std::thread([&] {
    tid = ::gettid();
    EXPECT_EQ(procguard_resume(entry), 0);
    EXPECT_TRUE(wait_until([] { return SignalCatcher::count() == 1; }));
    EXPECT_EQ(procguard_leave(entry, nullptr), PROCGUARD_SIGNALLED);
  }).join();
  ASSERT_EQ(SignalCatcher::caught().size(), 1U);
  EXPECT_EQ(SignalCatcher::caught()[0].tid, tid);
  EXPECT_EQ(SignalCatcher::caught()[0].signal, SIGINT);
}

// What its first thread did with it is over when that thread ends; the entry is not.
TEST_F(ClientSuspend, OutlivesItsThread) {
  const GuardPtr limit = guard(200ms, 1h, PROCGUARD_EXCEPTION);
  procguard_entry entry{};
  std::thread([&] {
    entry = enter(limit);
    EXPECT_EQ(procguard_suspend(entry), 0);
  }).join();
  EXPECT_EQ(procguard_is_entered(entry), 1);
  EXPECT_EQ(procguard_resume(entry), 0);
  EXPECT_TRUE(wait_until([&] { return told(limit).size() == 1; }));
  procguard_trip trip;
  EXPECT_EQ(procguard_leave(entry, &trip), PROCGUARD_WITHDRAWN);
  EXPECT_EQ(trip.guard, limit->id);
}

// Many tasks hop between threads while their steps come due.
TEST_F(ClientSuspend, ManyTasksHop) {
  const GuardPtr exceptions = guard(1ms, 10ms, PROCGUARD_EXCEPTION);
  std::mutex mutex;
  std::vector<procguard_entry> tasks;
  std::atomic<long> left{0};
  constexpr long kTasks = kSanitized ? 200 : 2000;
  const auto work = [&] {
    for (long i = 0; i < kTasks; ++i) {
      procguard_entry entry{};
      procguard_enter(exceptions.get(), nullptr, &entry);
      procguard_suspend(entry);
      {
        const std::lock_guard lock(mutex);
        tasks.push_back(entry);
        std::swap(tasks[static_cast<std::size_t>(i) % tasks.size()], tasks.back());
        entry = tasks.back();
        tasks.pop_back();
      }
      EXPECT_EQ(procguard_resume(entry), 0);
      procguard_progress(entry);
      EXPECT_EQ(procguard_suspend(entry), 0);
      const std::lock_guard lock(mutex);
      tasks.push_back(entry);
      if (tasks.size() > 50) {
        left += procguard_leave(tasks.front(), nullptr) >= 0 ? 1 : 0;
        tasks.erase(tasks.begin());
      }
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back(work);
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  for (const procguard_entry& task : tasks) {
    left += procguard_leave(task, nullptr) >= 0 ? 1 : 0;
  }
  EXPECT_EQ(left, 4 * kTasks);
}

}  // namespace
}  // namespace procguard::test
