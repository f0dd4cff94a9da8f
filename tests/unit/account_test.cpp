// SPDX-License-Identifier: Apache-2.0
// The arithmetic that the kernel programs and user space share, run on the host.
#include "bpf/account.h"

#include <gtest/gtest.h>

#include <atomic>
#include <barrier>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

namespace procguard::test {
namespace {

// ---- thresholds -------------------------------------------------------------------------------

pg_threshold over(__u64 limit, __u64 since) {
  pg_threshold t{};
  t.limit = limit;
  t.over_since_ns = since;
  t.episodes = since != 0 ? 1 : 0;
  return t;
}

struct ThresholdRow {
  std::string name;
  pg_threshold before;
  __s64 level;
  int crossed;
  __u64 over_since;
  __u64 episodes;
};

class Threshold : public testing::TestWithParam<ThresholdRow> {};

TEST_P(Threshold, Update) {
  const ThresholdRow& row = GetParam();
  pg_threshold t = row.before;
  EXPECT_EQ(pg_threshold_update(&t, &row.level, 500), row.crossed);
  EXPECT_EQ(t.over_since_ns, row.over_since);
  EXPECT_EQ(t.episodes, row.episodes);
  EXPECT_EQ(pg_threshold_update(&t, &row.level, 600), 0) << "a second look finds nothing new";
  EXPECT_EQ(t.over_since_ns, row.over_since);
}

INSTANTIATE_TEST_SUITE_P(
    Rows, Threshold,
    testing::Values(ThresholdRow{"UnusedIsNeverOver", over(0, 0), 1 << 30, 0, 0, 0},
                    ThresholdRow{"Under", over(100, 0), 99, 0, 0, 0},
                    ThresholdRow{"EqualFromBelowIsNotOver", over(100, 0), 100, 0, 0, 0},
                    ThresholdRow{"Up", over(100, 0), 101, PG_CROSSED_UP, 500, 1},
                    ThresholdRow{"StaysOver", over(100, 7), 102, 0, 7, 1},
                    ThresholdRow{"EqualFromAboveIsNotUnder", over(100, 7), 100, 0, 7, 1},
                    ThresholdRow{"Down", over(100, 7), 99, PG_CROSSED_DOWN, 0, 1},
                    ThresholdRow{"TakenAway", over(0, 7), 1 << 30, PG_CROSSED_DOWN, 0, 1},
                    ThresholdRow{"LevelBelowZero", over(1, 7), -5, PG_CROSSED_DOWN, 0, 1},
                    ThresholdRow{"Huge", over(INT64_MAX, 0), INT64_MAX, 0, 0, 0}),
    [](const auto& row) { return row.param.name; });

TEST(ThresholdEpisodes, EachSpikeCounts) {
  pg_threshold t = over(100, 0);
  __s64 level = 0;
  for (__u64 i = 1; i <= 5; ++i) {
    level = 101;
    EXPECT_EQ(pg_threshold_update(&t, &level, 10 * i), PG_CROSSED_UP);
    EXPECT_EQ(t.over_since_ns, 10 * i);
    EXPECT_EQ(t.episodes, i);
    level = 100;  // as good as over: no new episode begins from here
    EXPECT_EQ(pg_threshold_update(&t, &level, 10 * i + 1), 0);
    level = 99;
    EXPECT_EQ(pg_threshold_update(&t, &level, 10 * i + 2), PG_CROSSED_DOWN);
  }
}

// Two CPUs change one level and update one threshold at the same time, now around the limit, now
// both on one side. Whoever is last, level and state agree when both stand still.
TEST(ThresholdRace, NeverEndsInconsistent) {
  constexpr int kRounds = 50000;
  constexpr int kMostChanges = 8;  // in a round, by each thread
  constexpr __s64 kLimit = 100;
  pg_threshold t{};
  __s64 level = kLimit - 1;
  std::atomic<__u64> clock{1};
  int inconsistent = 0;
  t.limit = kLimit;
  std::barrier stand_still(2, [&]() noexcept {
    if ((t.over_since_ns != 0) != (level > kLimit)) {
      ++inconsistent;
      pg_threshold_update(&t, &level, ++clock);
    }
  });
  const auto hammer = [&](std::uint32_t random) {
    bool raised = false;
    for (int round = 0; round < kRounds; ++round) {
      random = random * 1664525U + 1013904223U;
      const std::uint32_t changes = 1 + (random >> 16U) % kMostChanges;
      for (std::uint32_t i = 0; i < changes; ++i) {
        __sync_fetch_and_add(&level, raised ? -2 : 2);  // odd: never equal to the limit
        raised = !raised;
        pg_threshold_update(&t, &level, ++clock);
      }
      stand_still.arrive_and_wait();
    }
  };
  std::thread one(hammer, 1);
  std::thread other(hammer, 77);
  one.join();
  other.join();
  EXPECT_EQ(inconsistent, 0) << "of " << kRounds << " rounds";
  EXPECT_GT(t.episodes, static_cast<__u64>(kRounds) / 2) << "it was crossed all the time";
}

struct StepRow {
  std::string name;
  __u32 signal;
  __u64 over_since;
  __u64 episodes;
  __u64 closed_episode;
  __u64 acted_episode;
  bool open;
};

class KernelStep : public testing::TestWithParam<StepRow> {};

TEST_P(KernelStep, Open) {
  const StepRow& row = GetParam();
  pg_threshold t{};
  t.limit = 100;
  t.signal = row.signal;
  t.over_since_ns = row.over_since;
  t.episodes = row.episodes;
  t.closed_episode = row.closed_episode;
  EXPECT_EQ(pg_kernel_step_open(&t, row.acted_episode) != 0, row.open);
}

INSTANTIATE_TEST_SUITE_P(Rows, KernelStep,
                         testing::Values(StepRow{"Over", 2, 9, 1, 0, 0, true},
                                         StepRow{"NoSignalWanted", 0, 9, 1, 0, 0, false},
                                         StepRow{"NotOver", 2, 0, 1, 0, 0, false},
                                         StepRow{"MemberHasHadIt", 2, 9, 1, 0, 1, false},
                                         StepRow{"TakenOver", 2, 9, 1, 1, 0, false},
                                         StepRow{"NextEpisodeOfAMember", 2, 9, 2, 0, 1, true},
                                         StepRow{"NextEpisodeAfterTakingOver", 2, 9, 2, 1, 1, true},
                                         StepRow{"NextEpisodeTakenOver", 2, 9, 2, 2, 1, false}),
                         [](const auto& row) { return row.param.name; });

// ---- what a process counts for ----------------------------------------------------------------

struct CountRow {
  std::string name;
  __u32 flags;
  __u64 base;
  __u64 counted;
  __u64 plain;
};

class Count : public testing::TestWithParam<CountRow> {};

TEST_P(Count, Bytes) {
  pg_process p{};
  p.rss_bytes[PG_RSS_FILE] = 1;
  p.rss_bytes[PG_RSS_ANON] = 20;
  p.rss_bytes[PG_RSS_SHMEM] = 300;
  p.flags = GetParam().flags;
  p.base_bytes = GetParam().base;
  EXPECT_EQ(pg_counted_bytes(&p), GetParam().counted);
  EXPECT_EQ(pg_plain_bytes(&p), GetParam().plain);
}

INSTANTIATE_TEST_SUITE_P(
    Rows, Count,
    testing::Values(CountRow{"AllParts", 0, 0, 321, 321},
                    CountRow{"OnlyGrowthSinceTheFork", PG_PROCESS_SHARES, 300, 21, 321},
                    CountRow{"ShrunkBelowWhatItWasBornWith", PG_PROCESS_SHARES, 400, 0, 321},
                    CountRow{"AnothersAddressSpace", PG_PROCESS_BORROWS_MM, 0, 0, 0},
                    CountRow{"AfterExec", PG_PROCESS_EXECED, 0, 321, 321}),
    [](const auto& row) { return row.param.name; });

// ---- time -------------------------------------------------------------------------------------

struct StateRow {
  std::string name;
  int preempted;
  __u32 kernel_state;
  __u32 expected;
};

class OffState : public testing::TestWithParam<StateRow> {};

TEST_P(OffState, FromTheKernelsBits) {
  EXPECT_EQ(pg_off_state(GetParam().preempted, GetParam().kernel_state), GetParam().expected);
}

INSTANTIATE_TEST_SUITE_P(Rows, OffState,
                         testing::Values(StateRow{"Running", 0, 0, PG_OFF_RUNNABLE},
                                         StateRow{"PreemptedRunning", 1, 0, PG_OFF_RUNNABLE},
                                         StateRow{"PreemptedAboutToSleep", 1, 1, PG_OFF_RUNNABLE},
                                         StateRow{"Interruptible", 0, 1, PG_BLOCKED_SLEEP},
                                         StateRow{"InterruptibleFreezable", 0, 0x2001,
                                                  PG_BLOCKED_SLEEP},
                                         StateRow{"Uninterruptible", 0, 2, PG_BLOCKED_DISK},
                                         StateRow{"Killable", 0, 0x102, PG_BLOCKED_DISK},
                                         StateRow{"Stopped", 0, 0x104, PG_BLOCKED_OTHER},
                                         StateRow{"Traced", 0, 8, PG_BLOCKED_OTHER},
                                         StateRow{"Parked", 0, 0x40, PG_BLOCKED_OTHER},
                                         StateRow{"Dead", 0, 0x80, PG_BLOCKED_OTHER},
                                         StateRow{"Frozen", 0, 0x8000, PG_BLOCKED_OTHER}),
                         [](const auto& row) { return row.param.name; });

pg_usage usage(__u64 wait, __u64 sleep, __u64 disk, __u64 voluntary, __u64 involuntary) {
  pg_usage u{};
  u.runnable_wait_ns = wait;
  u.blocked_ns[PG_BLOCKED_SLEEP] = sleep;
  u.blocked_ns[PG_BLOCKED_DISK] = disk;
  u.voluntary_switches = voluntary;
  u.involuntary_switches = involuntary;
  return u;
}

void expect_usage(const pg_usage& actual, const pg_usage& expected, const char* when) {
  EXPECT_EQ(actual.runnable_wait_ns, expected.runnable_wait_ns) << when;
  for (int i = 0; i < PG_BLOCKED_STATES; ++i) {
    EXPECT_EQ(actual.blocked_ns[i], expected.blocked_ns[i]) << when << ", blocked in " << i;
  }
  EXPECT_EQ(actual.voluntary_switches, expected.voluntary_switches) << when;
  EXPECT_EQ(actual.involuntary_switches, expected.involuntary_switches) << when;
}

// A thread sleeps from 100 to 180 and waits for a CPU from then to 200; runs; is preempted from 300
// to 350; runs; waits for a disk from 400 to 450.
TEST(ThreadTime, IsDividedWhenTheKernelHasMeasuredTheWait) {
  pg_thread t{};
  t.off_state = PG_OFF_RUNNABLE;
  t.run_delay_seen_ns = 1000;  // from before anybody watched

  pg_switch_out(&t, PG_BLOCKED_SLEEP, 1000, 100);
  expect_usage(t.usage, usage(0, 0, 0, 1, 0), "asleep");
  expect_usage(pg_usage_now(&t, 150), usage(0, 50, 0, 1, 0), "asleep, now");

  pg_switch_in(&t, 200);
  expect_usage(t.usage, usage(0, 0, 0, 1, 0), "awake: not divided yet");
  expect_usage(pg_usage_now(&t, 250), usage(0, 100, 0, 1, 0), "awake, now");

  pg_switch_out(&t, PG_OFF_RUNNABLE, 1020, 300);
  expect_usage(t.usage, usage(20, 80, 0, 1, 1), "preempted");
  expect_usage(pg_usage_now(&t, 310), usage(30, 80, 0, 1, 1), "preempted, now");

  pg_switch_in(&t, 350);
  pg_switch_out(&t, PG_BLOCKED_DISK, 1070, 400);
  expect_usage(t.usage, usage(70, 80, 0, 2, 1), "waits for a disk");

  pg_switch_in(&t, 450);
  pg_divide_off_time(&t, 1070);
  expect_usage(t.usage, usage(70, 80, 50, 2, 1), "at its end");
  expect_usage(pg_usage_now(&t, 999), t.usage, "nothing is left to be divided");
}

TEST(ThreadTime, NeverBelowZero) {
  pg_thread t{};
  t.run_delay_seen_ns = 50;
  pg_switch_out(&t, PG_BLOCKED_SLEEP, 40, 100);  // the kernel's counter went back
  pg_switch_in(&t, 90);                          // and so did the clock
  EXPECT_EQ(t.off_ns, 0U);
  pg_switch_out(&t, PG_BLOCKED_SLEEP, 40, 200);
  pg_switch_in(&t, 210);
  pg_divide_off_time(&t, 90);  // a longer wait than the whole time off the CPU
  EXPECT_EQ(t.usage.blocked_ns[PG_BLOCKED_SLEEP], 0U);
  EXPECT_EQ(t.usage.runnable_wait_ns, 50U);
}

TEST(ThreadTime, StateOutOfRangeIsNoIndex) {
  pg_thread t{};
  t.off_state = 77;
  t.off_ns = 10;
  t.usage.cpu_ns = 3;
  expect_usage(pg_usage_now(&t, 0), usage(10, 0, 0, 0, 0), "unknown state");
  pg_divide_off_time(&t, 0);
  expect_usage(t.usage, usage(0, 0, 0, 0, 0), "unknown state, divided");
  EXPECT_EQ(t.usage.cpu_ns, 3U);
}

}  // namespace
}  // namespace procguard::test
