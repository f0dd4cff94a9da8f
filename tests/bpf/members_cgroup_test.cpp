// SPDX-License-Identifier: Apache-2.0
// Membership in a cgroup: what is in it or below, however it came there, for as long as it stays.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tests/bpf/watched.h"

namespace procguard::test {
namespace {

constexpr std::uint64_t kSize = 8 * kMiB;

// A process of some size with a second thread; told anything it forks a child that sleeps on, and
// says its pid.
Peer forker() {
  return Peer([](Script& line) {
    touch(map_pages(kSize), kSize);
    std::thread other([] { ::pause(); });
    line.say();
    for (;;) {
      line.hear();
      line.say(fork_child(sleep_on));
    }
  });
}

class MembersCgroup : public Watched {
 protected:
  // Cgroups end before the leak check: they kill what is in them.
  void TearDown() override {
    inner_.reset();
    below_.reset();
    outer_.reset();
    Watched::TearDown();
  }
  void make_cgroups() {
    outer_.emplace();
    below_.emplace(outer_->child("below"));
    inner_.emplace(below_->child("inner"));
  }
  std::uint64_t sum(const std::vector<pid_t>& pids) {
    EXPECT_TRUE(at_rest(pids));
    std::uint64_t bytes = 0;
    for (const pid_t pid : pids) {
      bytes += rss_of(pid).total;
    }
    return bytes;
  }

  std::optional<TestCgroup> outer_;
  std::optional<TestCgroup> below_;
  std::optional<TestCgroup> inner_;
};

TEST_F(MembersCgroup, WhatIsThereAlready) {
  make_cgroups();
  Peer one = forker();
  Peer other = forker();
  one.hear();
  other.hear();
  outer_->add(one.pid());
  inner_->add(other.pid());
  const auto child = static_cast<pid_t>(one.ask());
  const auto id = watch_cgroup(*outer_);
  EXPECT_EQ(levels(id).processes, 3U);
  EXPECT_TRUE(is_member(id, one.pid()));
  EXPECT_TRUE(is_member(id, other.pid()));
  EXPECT_TRUE(is_member(id, child));
  EXPECT_EQ(process(one.pid()).threads, 2U);
  EXPECT_EQ(levels(id).memory_bytes, sum({one.pid(), other.pid(), child}));
}

TEST_F(MembersCgroup, EmptyAtFirst) {
  make_cgroups();
  const auto id = watch_cgroup(*outer_);
  ASSERT_NE(id, 0U);
  EXPECT_EQ(levels(id).processes, 0U);
  EXPECT_FALSE(levels(id).empty) << "nobody has been there yet";
  Peer peer = forker();
  peer.hear();
  outer_->add(peer.pid());
  EXPECT_EQ(levels(id).processes, 1U);
  EXPECT_EQ(process(peer.pid()).threads, 2U);
  expect_exact(id, peer.pid(), "moved in");
  ::kill(peer.pid(), SIGKILL);
  EXPECT_TRUE(edge(id));
  EXPECT_TRUE(wait_until([&] { return levels(id).empty; }));
}

TEST_F(MembersCgroup, MovesInAndOut) {
  make_cgroups();
  TestCgroup elsewhere;
  Peer peer = forker();
  peer.hear();
  const auto id = watch_cgroup(*outer_);
  limit_memory(id, kSize / 2);
  inner_->add(peer.pid());
  EXPECT_TRUE(is_member(id, peer.pid())) << "two levels below";
  expect_exact(id, peer.pid(), "in");
  EXPECT_NE(levels(id).memory[0].over_since_ns, 0U) << "it came with its memory";
  EXPECT_TRUE(edge(id));

  below_->add(peer.pid());
  EXPECT_TRUE(is_member(id, peer.pid())) << "one level below";
  EXPECT_EQ(levels(id).processes, 1U);
  EXPECT_EQ(levels(id).memory[0].episodes, 1U) << "it was never out";

  elsewhere.add(peer.pid());
  EXPECT_FALSE(is_member(id, peer.pid()));
  EXPECT_EQ(levels(id).processes, 0U);
  EXPECT_EQ(levels(id).memory_bytes, 0U);
  EXPECT_EQ(levels(id).memory_plain_bytes, 0U);
  EXPECT_EQ(levels(id).memory[0].over_since_ns, 0U);
  EXPECT_TRUE(levels(id).empty);
  const auto child = static_cast<pid_t>(peer.ask());
  EXPECT_FALSE(is_member(id, child)) << "forked outside";

  outer_->add(peer.pid());
  EXPECT_TRUE(is_member(id, peer.pid()));
  EXPECT_FALSE(levels(id).empty);
  EXPECT_EQ(levels(id).processes, 1U);
  EXPECT_EQ(levels(id).memory[0].episodes, 2U);
  ::kill(child, SIGKILL);
}

// It faults pages in on one CPU while it is moved on another.
TEST_F(MembersCgroup, MovesWhileItGrowsAndShrinks) {
  make_cgroups();
  TestCgroup elsewhere;
  SharedInts stop(1);
  Peer peer([&stop](Script& line) {
    char* area = map_pages(kMiB);
    const auto churn = [&](char* from) {
      while (stop[0] == 0) {
        touch(from, kMiB / 2);
        ::madvise(from, kMiB / 2, MADV_DONTNEED);
      }
    };
    std::thread other(churn, area);
    churn(area + kMiB / 2);
    other.join();
    line.say();
    line.hear();
  });
  const auto id = watch_cgroup(*outer_);
  for (int i = 0; i < 150; ++i) {
    outer_->add(peer.pid());
    elsewhere.add(peer.pid());
  }
  EXPECT_EQ(levels(id).processes, 0U);
  EXPECT_EQ(levels(id).memory_bytes, 0U) << "what it left behind";
  EXPECT_EQ(levels(id).memory_plain_bytes, 0U);
  outer_->add(peer.pid());
  stop[0] = 1;
  peer.hear();
  expect_exact(id, peer.pid(), "at last");
}

TEST_F(MembersCgroup, BornIntoIt) {
  make_cgroups();
  const std::string path = below_->path();
  Peer peer([path](Script& line) {
    touch(map_pages(kSize), kSize);
    const int directory = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    line.hear();
    for (int i = 0; i < 20; ++i) {
      const auto body = [&line] {
        line.say(::getpid());
        sleep_on();
      };
      if (clone_child(0, body, 0, directory) < 0) {
        ::_exit(3);
      }
    }
    line.hear();
  });
  const auto id = watch_cgroup(*outer_);
  peer.tell();
  for (int i = 0; i < 20; ++i) {
    const auto child = static_cast<pid_t>(peer.hear());
    EXPECT_TRUE(is_member(id, child)) << child;
  }
  EXPECT_FALSE(is_member(id, peer.pid()));
  const auto members = member_pids(id);
  EXPECT_EQ(members.size(), 20U);
  // Nobody in the cgroup counts for the pages they share with their parent outside.
  EXPECT_EQ(levels(id).memory_bytes, sum(members));
}

TEST_F(MembersCgroup, NestedWatchesAndATree) {
  make_cgroups();
  Peer peer = forker();
  peer.hear();
  const auto tree = watch_tree(peer.pid());
  const auto outer = watch_cgroup(*outer_);
  const auto inner = watch_cgroup(*inner_);
  inner_->add(peer.pid());
  const auto child = static_cast<pid_t>(peer.ask());
  for (const auto id : {tree, outer, inner}) {
    EXPECT_EQ(levels(id).processes, 2U);
    EXPECT_TRUE(is_member(id, child));
  }
  outer_->add(child);
  EXPECT_EQ(levels(tree).processes, 2U);
  EXPECT_EQ(levels(outer).processes, 2U);
  EXPECT_EQ(levels(inner).processes, 1U);
  EXPECT_FALSE(is_member(inner, child));
  source().release(outer);
  EXPECT_FALSE(source().levels(outer).ok());
  EXPECT_EQ(levels(tree).processes, 2U);
  EXPECT_EQ(levels(inner).processes, 1U);
}

TEST_F(MembersCgroup, ReleasedTakesNobodyIn) {
  make_cgroups();
  const auto first = watch_cgroup(*outer_);
  source().release(first);
  Peer peer = forker();
  peer.hear();
  outer_->add(peer.pid());
  EXPECT_FALSE(programs().process(static_cast<std::uint32_t>(peer.pid())).has_value());
  EXPECT_FALSE(source().members(first).ok());
  const auto second = watch_cgroup(*outer_);
  EXPECT_NE(first, second);
  EXPECT_TRUE(is_member(second, peer.pid()));
}

}  // namespace
}  // namespace procguard::test
