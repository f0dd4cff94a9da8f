// SPDX-License-Identifier: Apache-2.0
// What members use together, on a fake /proc.
#include "engine/procfs_accounts.h"

#include <gtest/gtest.h>
#include <sys/epoll.h>

#include <memory>

#include "tests/support/fake_proc.h"

namespace procguard::engine {
namespace {

using core::kMillisecond;
using core::kSecond;
using test::FakeProc;

constexpr std::uint64_t kMiB = 1 << 20;

class ProcfsAccountsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    proc_.set({.pid = 200, .ppid = FakeProc::kSelf, .rss_bytes = 200 * kMiB});
    epoll_ = sys::Fd(::epoll_create1(EPOLL_CLOEXEC));
    options_ = proc_.options();
  }
  void begin(pg_scope scope = PG_SCOPE_TREE) {
    members_ = std::make_unique<ProcfsMembers>(
        ProcfsMembers::Context{.options = options_,
                               .epoll = epoll_.get(),
                               .id = 1,
                               .claim_of = [](pid_t) { return ProcfsMembers::Claim::kFree; }},
        Target{.scope = scope, .pid = 200, .cgroup_path = ""});
    ASSERT_TRUE(members_->begin());
    accounts_ = std::make_unique<ProcfsAccounts>(options_);
    accounts_->begin(*members_);
  }
  ProcfsSums look() {
    EXPECT_TRUE(members_->refresh());
    return accounts_->update(*members_);
  }
  void rss(pid_t pid, std::uint64_t mib) {
    proc_.at(pid).rss_bytes = mib * kMiB;
    proc_.update(pid);
  }
  void fork(pid_t pid, pid_t parent, std::uint64_t mib) {
    proc_.set({.pid = pid,
               .ppid = parent,
               .start_ticks = 6100,
               .rss_bytes = mib * kMiB,
               .program = proc_.at(parent).program});
  }
  void exec(pid_t pid, const char* program, std::uint64_t mib) {
    proc_.at(pid).program = program;
    rss(pid, mib);
  }
  void run(pid_t pid, std::uint64_t ticks) {
    proc_.at(pid).ticks += ticks;
    proc_.update(pid);
  }

  FakeProc proc_;
  sys::Fd epoll_;
  ProcfsOptions options_;
  std::unique_ptr<ProcfsMembers> members_;
  std::unique_ptr<ProcfsAccounts> accounts_;
};

TEST_F(ProcfsAccountsTest, AForkedChildCountsWhatItGrew) {
  begin();
  EXPECT_EQ(look().memory_bytes, 200 * kMiB);
  fork(201, 200, 199);
  EXPECT_EQ(look().memory_bytes, 200 * kMiB);
  EXPECT_EQ(look().memory_plain_bytes, 399 * kMiB);
  rss(201, 219);
  EXPECT_EQ(look().memory_bytes, 220 * kMiB);
  // What it gave back and took anew is its own.
  rss(201, 100);
  EXPECT_EQ(look().memory_bytes, 200 * kMiB);
  rss(201, 150);
  EXPECT_EQ(look().memory_bytes, 250 * kMiB);
  EXPECT_EQ(look().memory_peak_bytes, 250 * kMiB);
  EXPECT_EQ(look().memory_plain_peak_bytes, 419 * kMiB);
}

TEST_F(ProcfsAccountsTest, AChildThatGrewBeforeItWasSeenCountsThat) {
  begin();
  rss(200, 10);
  look();
  fork(201, 200, 500);
  EXPECT_EQ(look().memory_bytes, 500 * kMiB);
}

TEST_F(ProcfsAccountsTest, AfterAnExecOfChildOrParentAllOfItCounts) {
  begin();
  fork(201, 200, 200);
  EXPECT_EQ(look().memory_bytes, 200 * kMiB);
  exec(201, "worker", 30);
  EXPECT_EQ(look().memory_bytes, 230 * kMiB);
  // Back in the parent's program: a new stack address, so another exec; sharing is over for good.
  exec(201, "sh", 40);
  EXPECT_EQ(look().memory_bytes, 240 * kMiB);

  fork(202, 200, 200);
  EXPECT_EQ(look().memory_bytes, 240 * kMiB);
  exec(200, "other", 5);
  EXPECT_EQ(look().memory_bytes, 245 * kMiB);
}

TEST_F(ProcfsAccountsTest, WhenTheParentHasEndedTheChildHasThePagesAlone) {
  begin();
  fork(201, 200, 200);
  fork(202, 201, 200);
  EXPECT_EQ(look().memory_bytes, 200 * kMiB);
  proc_.end(201);
  EXPECT_EQ(look().memory_bytes, 400 * kMiB);
  proc_.become_zombie(200);
  EXPECT_EQ(look().memory_bytes, 200 * kMiB);
}

TEST_F(ProcfsAccountsTest, AnAddressSpaceCountsOnce) {
  begin();
  fork(201, 200, 200);  // vfork
  proc_.borrowers.insert({201, 200});
  EXPECT_EQ(look().memory_bytes, 200 * kMiB);
  EXPECT_EQ(look().memory_plain_bytes, 200 * kMiB);
  rss(200, 300);
  rss(201, 300);
  EXPECT_EQ(look().memory_bytes, 300 * kMiB);
  exec(201, "true", 2);
  EXPECT_EQ(look().memory_bytes, 302 * kMiB);
}

TEST_F(ProcfsAccountsTest, WhereTheKernelHidesTheProgramAllCounts) {
  begin();
  fork(201, 200, 200);
  proc_.tree().remove("201/exe");  // not readable
  EXPECT_EQ(look().memory_bytes, 400 * kMiB);
}

TEST_F(ProcfsAccountsTest, ThePeakBetweenTwoLooksIsTheKernels) {
  proc_.at(200).peak_bytes = 900 * kMiB;  // long ago
  proc_.update(200);
  begin(PG_SCOPE_PROCESS);
  EXPECT_EQ(look().memory_peak_bytes, 200 * kMiB);
  proc_.at(200).peak_bytes = 950 * kMiB;
  proc_.update(200);
  EXPECT_EQ(look().memory_peak_bytes, 950 * kMiB);
}

TEST_F(ProcfsAccountsTest, CpuIsWhatWasUsedSinceAndTheBetterOfTwoReadings) {
  proc_.at(200).ticks = 500;
  proc_.update(200);
  begin(PG_SCOPE_PROCESS);
  EXPECT_EQ(look().cpu_ns, 0U);
  run(200, 10);
  EXPECT_EQ(look().cpu_ns, 100 * kMillisecond);
  // Threads know it to the nanosecond.
  proc_.at(200).threads = {{200, 3 * kSecond}, {201, 2'105'000'000}};
  proc_.update(200);
  EXPECT_EQ(look().cpu_ns, 105 * kMillisecond);
  // One of them ends: the process's ticks still have its time, and it never runs backwards.
  proc_.at(200).threads = {{200, 3 * kSecond}};
  proc_.update(200);
  EXPECT_EQ(look().cpu_ns, 105 * kMillisecond);
  run(200, 1);
  EXPECT_EQ(look().cpu_ns, 110 * kMillisecond);
}

TEST_F(ProcfsAccountsTest, ATreeKeepsTheTimeOfItsEndedMembers) {
  begin();
  fork(201, 200, 1);
  run(201, 30);
  EXPECT_EQ(look().cpu_ns, 300 * kMillisecond);
  run(201, 10);  // after the last look; its parent waits for it and has it
  proc_.end(201);
  EXPECT_EQ(look().cpu_ns, 400 * kMillisecond);
  // Born and waited for between two looks.
  fork(202, 200, 1);
  run(202, 20);
  proc_.end(202);
  EXPECT_EQ(look().cpu_ns, 600 * kMillisecond);
}

TEST_F(ProcfsAccountsTest, ParentAndChildThatEndTogetherCountOnce) {
  begin();
  fork(201, 200, 1);
  fork(202, 201, 1);
  run(202, 50);
  look();
  proc_.end(202);            // 201 waits for it ...
  proc_.become_zombie(201);  // ... and ends
  EXPECT_EQ(look().cpu_ns, 500 * kMillisecond);
  proc_.end(201);
  EXPECT_EQ(look().cpu_ns, 500 * kMillisecond);
}

TEST_F(ProcfsAccountsTest, TheRootsChildrenCountAfterTheRootHasEnded) {
  begin();
  fork(201, 200, 1);
  run(201, 20);
  proc_.end(201);
  look();
  proc_.become_zombie(200);
  EXPECT_EQ(look().cpu_ns, 200 * kMillisecond);
}

TEST_F(ProcfsAccountsTest, AnOrphansTimeIsKeptAsLastSeen) {
  begin();
  fork(201, 200, 1);
  fork(202, 201, 1);
  look();
  proc_.end(201);
  run(202, 15);
  EXPECT_EQ(look().cpu_ns, 150 * kMillisecond);
  proc_.end(202);  // the host waits for it: nobody in the tree has its time
  EXPECT_EQ(look().cpu_ns, 150 * kMillisecond);
}

TEST_F(ProcfsAccountsTest, WhatWasUsedBeforeTheWatchNeverCounts) {
  proc_.at(200).children_ticks = 700;
  proc_.update(200);
  proc_.set({.pid = 201, .ppid = 200, .ticks = 1000, .children_ticks = 300});
  proc_.set({.pid = 202, .ppid = 200, .ticks = 2000});
  proc_.become_zombie(202);
  begin();
  EXPECT_EQ(look().cpu_ns, 0U);
  run(201, 5);
  EXPECT_EQ(look().cpu_ns, 50 * kMillisecond);
  proc_.end(202);  // a zombie's old time comes to its parent only now
  EXPECT_EQ(look().cpu_ns, 50 * kMillisecond);
  proc_.end(201);
  EXPECT_EQ(look().cpu_ns, 50 * kMillisecond);
  run(200, 1);
  EXPECT_EQ(look().cpu_ns, 60 * kMillisecond);
}

}  // namespace
}  // namespace procguard::engine
