// SPDX-License-Identifier: Apache-2.0
// A memory limit is compared in the kernel, to the page. Crossings stand in the watch with the time
// they happened, whether anybody reads or not; the ring only says "look", at most once unread.
#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <optional>
#include <string>

#include "tests/bpf/watched.h"

namespace procguard::test {
namespace {

// A peer with a strip of pages: told N > 0 it touches the next N, told N < 0 it gives the last -N
// back. Its RSS moves by nothing else.
class MemoryThreshold : public Watched {
 protected:
  static constexpr std::uint64_t kStrip = 16 * kMiB;

  void start() {
    peer_.emplace([](Script& line) {
      char* strip = map_pages(kStrip);
      std::uint64_t touched = 0;
      touch(strip, kStrip);  // page tables are there from now on
      ::madvise(strip, kStrip, MADV_DONTNEED);
      for (;;) {
        const std::int64_t pages = line.hear();
        const std::uint64_t bytes = static_cast<std::uint64_t>(std::abs(pages)) * kPage;
        if (pages > 0) {
          touch(strip + touched, bytes);
          touched += bytes;
        } else if (pages < 0) {
          touched -= bytes;
          ::madvise(strip + touched, bytes, MADV_DONTNEED);
        }
        line.say();
      }
    });
    id_ = watch_process(peer_->pid());
    move(1);
    move(-1);
  }
  void TearDown() override {
    peer_.reset();
    Watched::TearDown();
  }
  void move(std::int64_t pages) {
    peer_->ask(pages);
    ASSERT_TRUE(at_rest({peer_->pid()}));
  }
  std::uint64_t rss() { return levels(id_).memory_bytes; }
  engine::ThresholdState state(int slot = 0) { return levels(id_).memory[slot]; }
  bool over(int slot = 0) { return state(slot).over_since_ns != 0; }

  std::optional<Peer> peer_;
  engine::WatchId id_ = 0;
};

TEST_F(MemoryThreshold, EqualIsNeitherOverNorUnder) {
  start();
  const std::uint64_t limit = rss() + 2 * kPage;
  limit_memory(id_, limit);
  move(2);
  EXPECT_EQ(rss(), limit);
  EXPECT_FALSE(over()) << "reached from below: not over";
  EXPECT_TRUE(source().drain().empty());
  const core::Ns before = clock_.now();
  move(1);
  EXPECT_TRUE(over()) << "one page over";
  EXPECT_GE(state().over_since_ns, before);
  EXPECT_LE(state().over_since_ns, clock_.now());
  EXPECT_TRUE(edge(id_));
  const core::Ns since = state().over_since_ns;
  move(-1);
  EXPECT_EQ(rss(), limit);
  EXPECT_EQ(state().over_since_ns, since) << "reached from above: still over, since then";
  EXPECT_TRUE(source().drain().empty());
  move(-1);
  EXPECT_FALSE(over()) << "one page under";
  EXPECT_TRUE(edge(id_));
  EXPECT_EQ(state().episodes, 1U);
}

TEST_F(MemoryThreshold, SpikesCountWhileNobodyReads) {
  start();
  limit_memory(id_, rss() + kMiB);
  source().drain();
  for (int spike = 0; spike < 5; ++spike) {
    move(512);
    move(-512);
  }
  EXPECT_FALSE(over());
  EXPECT_EQ(state().episodes, 5U);
  const core::Ns before = clock_.now();
  move(512);
  const core::Ns after = clock_.now();
  move(1024);
  EXPECT_EQ(state().episodes, 6U);
  EXPECT_GE(state().over_since_ns, before) << "the time of the sixth crossing, not of the first";
  EXPECT_LE(state().over_since_ns, after);
}

TEST_F(MemoryThreshold, AtMostOneUnreadEdge) {
  start();
  limit_memory(id_, rss() + kMiB);
  source().drain();
  int records = 0;
  const auto count = [&](const pg_edge& record) { records += record.watch == id_ ? 1 : 0; };
  for (int spike = 0; spike < 5; ++spike) {
    move(512);
    move(-512);
  }
  EXPECT_EQ(programs().consume(count), 0U) << "malformed records";
  EXPECT_EQ(records, 1) << "ten crossings, nobody read";
  move(512);
  programs().consume(count);
  EXPECT_EQ(records, 1) << "the reader has not said that it looks";
  // It says so by drain(), which found nothing in the ring: the one record was taken above.
  __atomic_store_n(&programs().watches()[static_cast<std::uint32_t>(id_)].edge_unread, 0U,
                   __ATOMIC_SEQ_CST);
  move(-512);
  EXPECT_TRUE(edge(id_)) << "the next crossing after a look tells again";
  EXPECT_TRUE(source().drain().empty());
  move(512);
  EXPECT_TRUE(edge(id_));
  EXPECT_TRUE(over());
}

TEST_F(MemoryThreshold, AlreadyOverWhenArmedIsACrossing) {
  start();
  move(512);
  const core::Ns before = clock_.now();
  limit_memory(id_, rss() - kMiB);
  EXPECT_TRUE(over());
  EXPECT_GE(state().over_since_ns, before);
  EXPECT_LE(state().over_since_ns, clock_.now());
  EXPECT_EQ(state().episodes, 1U);
  limit_memory(id_, rss() + kMiB);
  EXPECT_FALSE(over()) << "the limit was raised above the level";
  limit_memory(id_, rss() - kMiB);
  EXPECT_EQ(state().episodes, 2U);
  limit_memory(id_, 0);
  EXPECT_FALSE(over()) << "no limit";
}

TEST_F(MemoryThreshold, ThresholdIsPutInForceBeforeTheMemoryIsAccounted) {
  load({}, false);  // the program that follows RSS is attached by the first memory limit
  start();
  move(512);
  EXPECT_TRUE(at_rest({peer_->pid()}));
  limit_memory(id_, rss_of(peer_->pid()).total - kMiB);
  EXPECT_TRUE(over()) << "what the process grew to before anybody looked";
  expect_exact(id_, peer_->pid(), "armed");
  move(16);
  expect_exact(id_, peer_->pid(), "grown");
}

TEST_F(MemoryThreshold, TwoThresholdsAreTwo) {
  start();
  engine::Thresholds both;
  both.memory[0].bytes = rss() + 4 * kMiB;
  both.memory[1].bytes = rss() + 2 * kMiB;
  ASSERT_TRUE(source().set_thresholds(id_, both).ok());
  move(768);
  EXPECT_FALSE(over(0));
  EXPECT_TRUE(over(1));
  move(512);
  EXPECT_TRUE(over(0));
  EXPECT_GT(state(0).over_since_ns, state(1).over_since_ns);
  move(-512);
  EXPECT_FALSE(over(0));
  EXPECT_TRUE(over(1));
  EXPECT_EQ(state(1).episodes, 1U);
}

TEST_F(MemoryThreshold, EndOfTheTargetIsACrossingToo) {
  start();
  limit_memory(id_, rss() + kMiB);
  move(512);
  EXPECT_TRUE(edge(id_));
  peer_.reset();
  EXPECT_TRUE(edge(id_));
  EXPECT_TRUE(wait_until([&] { return levels(id_).empty; }));
  EXPECT_FALSE(over());
  EXPECT_EQ(rss(), 0U);
  EXPECT_EQ(levels(id_).memory_plain_bytes, 0U);
}

TEST_F(MemoryThreshold, ExecResetsTheLevel) {
  Peer peer([](Script& line) {
    touch(map_pages(kStrip), kStrip);
    line.say();
    line.hear();
    ::execl("/bin/sleep", "sleep", "60", nullptr);
    ::_exit(3);
  });
  peer.hear();
  const auto id = watch_tree(peer.pid());
  limit_memory(id, kStrip);
  EXPECT_NE(levels(id).memory[0].over_since_ns, 0U);
  peer.tell();
  ASSERT_TRUE(wait_until([&] { return process(peer.pid()).exec_ns != 0; }));
  expect_exact(id, peer.pid(), "after exec");
  EXPECT_LT(levels(id).memory_bytes, kStrip);
  EXPECT_EQ(levels(id).memory[0].over_since_ns, 0U);
  EXPECT_EQ(levels(id).memory[0].episodes, 1U);
}

}  // namespace
}  // namespace procguard::test
