// SPDX-License-Identifier: Apache-2.0
// Spinning, starved, stuck or asleep: row by row.
#include "cli/diagnosis.h"

#include <gtest/gtest.h>
#include <sys/syscall.h>

namespace procguard::cli {
namespace {

pg_usage used(std::uint64_t cpu, std::uint64_t wait, std::uint64_t sleep, std::uint64_t disk = 0) {
  pg_usage usage{};
  usage.cpu_ns = cpu;
  usage.runnable_wait_ns = wait;
  usage.blocked_ns[PG_BLOCKED_SLEEP] = sleep;
  usage.blocked_ns[PG_BLOCKED_DISK] = disk;
  return usage;
}

struct Row {
  const char* description;
  char state;
  const char* syscall;
  pg_usage usage;
  Activity expected;
};

TEST(Diagnosis, OfAThread) {
  const Row rows[] = {
      {"has a CPU", 'R', "running", used(90, 10, 0), Activity::kSpinning},
      {"waits for one", 'R', "running", used(10, 90, 0), Activity::kStarved},
      {"shares it with one other", 'R', "running", used(40, 60, 0), Activity::kSpinning},
      {"slept most of its life, runs now", 'R', "running", used(2, 1, 97), Activity::kSpinning},
      {"disk", 'D', "", used(1, 0, 0, 99), Activity::kStuck},
      {"reads a pipe", 'S', "read", used(1, 0, 99), Activity::kStuck},
      {"waits for a lock", 'S', "futex", used(1, 0, 99), Activity::kStuck},
      {"asked for a pause", 'S', "clock_nanosleep", used(1, 0, 99), Activity::kSleeping},
      {"waits for events", 'S', "epoll_wait", used(1, 0, 99), Activity::kSleeping},
      {"waits for a child", 'S', "wait4", used(1, 0, 99), Activity::kSleeping},
      {"the call is not told", 'S', "", used(1, 0, 99), Activity::kSleeping},
      {"left the call between two looks", 'S', "running", used(1, 0, 99), Activity::kSleeping},
      {"stopped", 'T', "read", used(1, 0, 99), Activity::kSleeping},
  };
  for (const Row& row : rows) {
    EXPECT_EQ(diagnose(row.state, row.syscall, row.usage), row.expected) << row.description;
  }
}

TEST(Diagnosis, OfAll) {
  const ThreadActivity spinner{Activity::kSpinning, used(90, 10, 0)};
  const ThreadActivity starved{Activity::kStarved, used(10, 200, 0)};
  const ThreadActivity stuck{Activity::kStuck, used(0, 0, 100)};
  const ThreadActivity sleeper{Activity::kSleeping, used(0, 0, 100)};
  const pg_usage none{};
  EXPECT_EQ(diagnose_all({sleeper, stuck, spinner}, none), Activity::kSpinning);
  EXPECT_EQ(diagnose_all({spinner, starved}, none), Activity::kStarved) << "by their sums";
  EXPECT_EQ(diagnose_all({sleeper, stuck}, none), Activity::kStuck);
  EXPECT_EQ(diagnose_all({sleeper, sleeper}, none), Activity::kSleeping);
}

TEST(Diagnosis, OfAllWhereNoThreadIsLeft) {
  EXPECT_EQ(diagnose_all({}, used(80, 10, 10)), Activity::kSpinning);
  EXPECT_EQ(diagnose_all({}, used(10, 80, 10)), Activity::kStarved);
  EXPECT_EQ(diagnose_all({}, used(5, 5, 90)), Activity::kSleeping);
  EXPECT_EQ(diagnose_all({}, used(5, 5, 10, 80)), Activity::kStuck);
}

TEST(Diagnosis, SharesAddUp) {
  const Shares shares = shares_of(used(1, 2, 3, 4));
  EXPECT_DOUBLE_EQ(shares.cpu, 0.1);
  EXPECT_DOUBLE_EQ(shares.runnable_wait, 0.2);
  EXPECT_DOUBLE_EQ(shares.blocked, 0.7);
  const Shares nothing = shares_of(pg_usage{});
  EXPECT_EQ(nothing.cpu + nothing.runnable_wait + nothing.blocked, 0.0);
}

TEST(Diagnosis, SyscallNames) {
  EXPECT_EQ(syscall_name(SYS_read), "read");
  EXPECT_EQ(syscall_name(SYS_futex), "futex");
  EXPECT_EQ(syscall_name(99999), "99999");
}

}  // namespace
}  // namespace procguard::cli
