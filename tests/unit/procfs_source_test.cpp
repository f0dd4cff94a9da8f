// SPDX-License-Identifier: Apache-2.0
// The procfs source on a fake /proc: thresholds, when it looks, and what it says of it.
#include "engine/procfs_source.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>

#include "tests/support/fake_clock.h"
#include "tests/support/fake_proc.h"

namespace procguard::engine {
namespace {

using core::kMillisecond;
using core::kSecond;
using test::FakeClock;
using test::FakeProc;

constexpr std::uint64_t kMiB = 1 << 20;

class ProcfsSourceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto made = ProcfsSource::create(clock_, proc_.options());
    ASSERT_TRUE(made);
    source_ = std::move(made).value();
    proc_.set({.pid = 200, .ppid = FakeProc::kSelf, .rss_bytes = 10 * kMiB});
  }

  WatchId watch(pg_scope scope, pid_t pid = 200, pid_t tid = 0) {
    const auto id = source_->watch({.scope = scope, .pid = pid, .tid = tid, .cgroup_path = ""});
    EXPECT_TRUE(id) << id.error().message();
    return id ? id.value() : 0;
  }
  Levels levels(WatchId id) {
    const auto read = source_->levels(id);
    EXPECT_TRUE(read) << read.error().message();
    return read ? read.value() : Levels{};
  }
  void set_memory(WatchId id, std::uint64_t bytes) {
    Thresholds thresholds;
    thresholds.memory[0].bytes = bytes;
    ASSERT_TRUE(source_->set_thresholds(id, thresholds));
  }
  void set_rss(std::uint64_t bytes) {
    proc_.at(200).rss_bytes = bytes;
    proc_.update(200);
  }
  bool readable() const {
    pollfd entry{.fd = source_->event_fd(), .events = POLLIN, .revents = 0};
    return ::poll(&entry, 1, 0) == 1;
  }

  FakeClock clock_;
  FakeProc proc_;
  std::unique_ptr<ProcfsSource> source_;
};

TEST_F(ProcfsSourceTest, WithoutThresholdsItNeverLooksByItself) {
  for (const pg_scope scope : {PG_SCOPE_PROCESS, PG_SCOPE_TREE}) {
    const WatchId id = watch(scope);
    EXPECT_EQ(source_->next_check(clock_.now()), core::kNever);
    EXPECT_EQ(levels(id).processes, 1U);
    EXPECT_EQ(source_->next_check(clock_.now()), core::kNever);
    EXPECT_TRUE(source_->drain().empty());
    EXPECT_FALSE(readable());
  }
  EXPECT_STREQ(source_->name(), "procfs");
  EXPECT_STREQ(source_->membership(), "subreaper");
}

TEST_F(ProcfsSourceTest, ACrossingHasATimeAndANumber) {
  const WatchId id = watch(PG_SCOPE_PROCESS);
  set_memory(id, 64 * kMiB);
  EXPECT_EQ(levels(id).memory[0].over_since_ns, 0U);

  clock_.advance(kSecond);
  set_rss(64 * kMiB);
  EXPECT_TRUE(source_->drain().empty());  // equal is not over
  EXPECT_EQ(levels(id).memory[0].episodes, 0U);

  clock_.advance(kSecond);
  set_rss(65 * kMiB);
  EXPECT_EQ(source_->drain(), std::vector<WatchId>{id});
  const core::Ns crossed = clock_.now();
  EXPECT_EQ(levels(id).memory[0].over_since_ns, crossed);
  EXPECT_EQ(levels(id).memory[0].episodes, 1U);

  clock_.advance(kSecond);
  set_rss(64 * kMiB);
  EXPECT_TRUE(source_->drain().empty());  // nor is it under
  EXPECT_EQ(levels(id).memory[0].over_since_ns, crossed);

  clock_.advance(kSecond);
  set_rss(10 * kMiB);
  EXPECT_EQ(source_->drain(), std::vector<WatchId>{id});
  EXPECT_EQ(levels(id).memory[0].over_since_ns, 0U);

  clock_.advance(kSecond);
  set_rss(70 * kMiB);
  EXPECT_EQ(source_->drain(), std::vector<WatchId>{id});
  EXPECT_EQ(levels(id).memory[0].episodes, 2U);
  EXPECT_EQ(levels(id).memory_peak_bytes, 70 * kMiB);
}

TEST_F(ProcfsSourceTest, AlreadyOverWhenSetIsACrossingNow) {
  const WatchId id = watch(PG_SCOPE_PROCESS);
  clock_.advance(kSecond);
  set_memory(id, kMiB);
  EXPECT_EQ(levels(id).memory[0].over_since_ns, clock_.now());
  set_memory(id, 0);
  EXPECT_EQ(levels(id).memory[0].over_since_ns, 0U);
  EXPECT_EQ(source_->drain(), std::vector<WatchId>{id});
  EXPECT_EQ(source_->next_check(clock_.now()), core::kNever);
}

// Whoever asks for levels may do so for a report: the crossing is told all the same.
TEST_F(ProcfsSourceTest, ACrossingThatALookHasFoundIsToldToo) {
  const WatchId id = watch(PG_SCOPE_PROCESS);
  set_memory(id, 60 * kMiB);
  static_cast<void>(source_->drain());
  set_rss(70 * kMiB);
  EXPECT_NE(levels(id).memory[0].over_since_ns, 0U);
  EXPECT_LE(source_->next_check(clock_.now()), clock_.now());
  EXPECT_EQ(source_->drain(), std::vector<WatchId>{id});
  EXPECT_EQ(source_->drain(), std::vector<WatchId>{});
}

TEST_F(ProcfsSourceTest, BothMemoryThresholdsAndCpuAreKeptApart) {
  const WatchId id = watch(PG_SCOPE_PROCESS);
  Thresholds thresholds;
  thresholds.memory[0].bytes = 100 * kMiB;
  thresholds.memory[1].bytes = 5 * kMiB;
  thresholds.cpu_ns = 500 * kMillisecond;
  ASSERT_TRUE(source_->set_thresholds(id, thresholds));
  EXPECT_EQ(levels(id).memory[0].episodes, 0U);
  EXPECT_EQ(levels(id).memory[1].episodes, 1U);
  EXPECT_EQ(levels(id).cpu.episodes, 0U);
  proc_.at(200).ticks = 51;
  proc_.update(200);
  EXPECT_EQ(levels(id).cpu_ns, 510 * kMillisecond);
  EXPECT_EQ(levels(id).cpu.episodes, 1U);
}

TEST_F(ProcfsSourceTest, MemoryIsLookedAtMoreOftenWhereTheLimitComesNear) {
  const WatchId id = watch(PG_SCOPE_PROCESS);
  set_memory(id, 1000 * kMiB);
  // It has just begun: soon, and then less and less often.
  EXPECT_EQ(source_->next_check(0), clock_.now() + 5 * kMillisecond);
  clock_.advance(20 * kMillisecond);
  source_->drain();
  EXPECT_EQ(source_->next_check(0), clock_.now() + 20 * kMillisecond);
  clock_.advance(10 * kSecond);
  source_->drain();
  EXPECT_EQ(source_->next_check(0), clock_.now() + 100 * kMillisecond);
  // 400 MiB in 100 ms, 590 left: half of the time to the limit.
  clock_.advance(100 * kMillisecond);
  set_rss(410 * kMiB);
  source_->drain();
  EXPECT_NEAR(static_cast<double>(source_->next_check(0) - clock_.now()), 73.75e6, 1e5);
  // Reading the levels at once does not forget how fast it grows.
  const core::Ns planned = source_->next_check(0);
  clock_.advance(50'000);
  levels(id);
  EXPECT_NEAR(static_cast<double>(source_->next_check(0)), static_cast<double>(planned), 1e6);
  // Never more often than this.
  clock_.advance(80 * kMillisecond);
  set_rss(999 * kMiB);
  source_->drain();
  EXPECT_EQ(source_->next_check(0), clock_.now() + 5 * kMillisecond);
}

TEST_F(ProcfsSourceTest, CpuIsLookedAtWhenTheBudgetCanHaveRunOut) {
  const WatchId id = watch(PG_SCOPE_PROCESS);
  Thresholds thresholds;
  thresholds.cpu_ns = kSecond;
  ASSERT_TRUE(source_->set_thresholds(id, thresholds));
  EXPECT_EQ(source_->next_check(0), clock_.now() + 500 * kMillisecond);  // two CPUs
  struct Row {
    std::uint64_t ticks;
    core::Ns wait;
  };
  for (const Row row : {Row{50, 250 * kMillisecond}, Row{90, 50 * kMillisecond},
                        Row{100, 5 * kMillisecond}, Row{101, core::kNever}}) {
    clock_.advance(kSecond);
    proc_.at(200).ticks = row.ticks;
    proc_.update(200);
    source_->drain();
    const core::Ns expected = row.wait == core::kNever ? row.wait : clock_.now() + row.wait;
    EXPECT_EQ(source_->next_check(0), expected) << row.ticks;
  }
}

TEST_F(ProcfsSourceTest, OfSeveralWatchesTheEarliestCounts) {
  const WatchId one = watch(PG_SCOPE_PROCESS);
  const WatchId other = watch(PG_SCOPE_TREE);
  Thresholds thresholds;
  thresholds.cpu_ns = kSecond;
  ASSERT_TRUE(source_->set_thresholds(one, thresholds));
  thresholds.cpu_ns = 100 * kSecond;
  ASSERT_TRUE(source_->set_thresholds(other, thresholds));
  EXPECT_EQ(source_->next_check(0), clock_.now() + 500 * kMillisecond);
  source_->release(one);
  EXPECT_EQ(source_->next_check(0), clock_.now() + 50 * kSecond);
  EXPECT_FALSE(source_->levels(one));
}

TEST_F(ProcfsSourceTest, TheKernelTellsOfTheEndWithoutALook) {
  const WatchId id = watch(PG_SCOPE_TREE);
  proc_.set({.pid = 201, .ppid = 200});
  EXPECT_EQ(levels(id).processes, 2U);
  EXPECT_FALSE(readable());

  proc_.become_zombie(200);
  EXPECT_TRUE(readable());
  EXPECT_TRUE(source_->drain().empty());  // one still lives: no news for a guard
  EXPECT_FALSE(readable());
  EXPECT_FALSE(levels(id).empty);
  EXPECT_EQ(levels(id).processes, 1U);

  // Nobody is known any more: one look, but not for each process of a fork storm.
  proc_.end(201);
  EXPECT_TRUE(readable());
  EXPECT_TRUE(source_->drain().empty());
  EXPECT_EQ(source_->next_check(0), clock_.now() + 5 * kMillisecond);
  clock_.advance(5 * kMillisecond);
  EXPECT_EQ(source_->drain(), std::vector<WatchId>{id});
  EXPECT_EQ(source_->next_check(0), core::kNever);
  EXPECT_FALSE(readable());
  EXPECT_TRUE(levels(id).empty);
  EXPECT_EQ(levels(id).processes, 0U);
  EXPECT_EQ(levels(id).memory_bytes, 0U);
  EXPECT_TRUE(source_->drain().empty());
}

TEST_F(ProcfsSourceTest, ATargetThatIsNotThereIsAnError) {
  const auto gone = source_->watch({.scope = PG_SCOPE_PROCESS, .pid = 999, .cgroup_path = ""});
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().code(), ESRCH);
  proc_.become_zombie(200);
  EXPECT_FALSE(source_->watch({.scope = PG_SCOPE_PROCESS, .pid = 200, .cgroup_path = ""}));
  EXPECT_FALSE(
      source_->watch({.scope = PG_SCOPE_CGROUP, .cgroup_path = proc_.tree().at("no-cgroup")}));
  for (const auto& failed : {source_->set_thresholds(77, {})}) {
    EXPECT_FALSE(failed);
  }
  EXPECT_FALSE(source_->members(77));
  EXPECT_FALSE(source_->usage(77));
  EXPECT_FALSE(source_->open_member(77, {}));
}

TEST_F(ProcfsSourceTest, AProcOfAnotherPidNamespaceIsRefused) {
  proc_.tree().link("self", "7");
  const auto refused = source_->watch({.scope = PG_SCOPE_PROCESS, .pid = 200, .cgroup_path = ""});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message().find("pid namespace"), std::string::npos);
}

TEST_F(ProcfsSourceTest, AThreadIsCountedAloneAndEndsAlone) {
  proc_.at(200).threads = {{200, 3 * kSecond}, {201, kSecond}};
  proc_.update(200);
  const WatchId id = watch(PG_SCOPE_THREAD, 200, 201);
  EXPECT_EQ(levels(id).cpu_ns, 0U);
  proc_.at(200).threads = {{200, 9 * kSecond}, {201, 2 * kSecond}};
  proc_.update(200);
  EXPECT_EQ(levels(id).cpu_ns, kSecond);
  EXPECT_EQ(levels(id).memory_bytes, 10 * kMiB);  // of its process
  const auto usage = source_->usage(id);
  ASSERT_TRUE(usage);
  ASSERT_EQ(usage.value().threads.size(), 1U);
  EXPECT_EQ(usage.value().threads[0].tid, 201);

  proc_.tree().remove("200/task/201");
  EXPECT_TRUE(levels(id).empty);
  EXPECT_EQ(levels(id).cpu_ns, kSecond);
  EXPECT_FALSE(
      source_->watch({.scope = PG_SCOPE_THREAD, .pid = 200, .tid = 201, .cgroup_path = ""}));
}

TEST_F(ProcfsSourceTest, UsageIsWhatThreadsDidSinceTheWatchBegan) {
  // Present since before: its past does not count. Uptime is 60 s, the process began at 50 s.
  proc_.at(200).threads = {{200, 2 * kSecond}};
  proc_.at(200).switches = 40;
  proc_.at(200).comm = "evil\n)";
  proc_.update(200);
  const WatchId id = watch(PG_SCOPE_PROCESS);
  proc_.at(200).threads = {{200, 5 * kSecond}, {210, kSecond}};
  proc_.at(200).switches = 50;
  proc_.update(200);
  proc_.tree().write("uptime", "70.00 0.00\n");

  const auto usage = source_->usage(id);
  ASSERT_TRUE(usage);
  ASSERT_EQ(usage.value().threads.size(), 2U);
  EXPECT_EQ(usage.value().total.cpu_ns, 4 * kSecond);
  auto threads = usage.value().threads;
  std::sort(threads.begin(), threads.end(), [](auto& a, auto& b) { return a.tid < b.tid; });
  const ThreadUsage& leader = threads[0];
  EXPECT_EQ(leader.tid, 200);
  EXPECT_EQ(leader.comm, "evil\\x0a)");
  EXPECT_EQ(leader.state, 'S');
  EXPECT_EQ(leader.usage.cpu_ns, 3 * kSecond);
  EXPECT_EQ(leader.usage.runnable_wait_ns, 0U);
  EXPECT_EQ(leader.usage.voluntary_switches, 10U);
  EXPECT_EQ(leader.usage.involuntary_switches, 0U);
  EXPECT_EQ(leader.usage.blocked_ns[PG_BLOCKED_SLEEP], 7 * kSecond);
  const ThreadUsage& newcomer = threads[1];
  EXPECT_EQ(newcomer.usage.cpu_ns, kSecond);
  EXPECT_EQ(newcomer.usage.voluntary_switches, 50U);
  EXPECT_EQ(usage.value().total.voluntary_switches, 60U);
}

}  // namespace
}  // namespace procguard::engine
