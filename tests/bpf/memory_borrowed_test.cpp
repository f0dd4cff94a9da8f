// SPDX-License-Identifier: Apache-2.0
// One address space with several processes in it (vfork, CLONE_VM) counts once, whoever of them
// ends first. And the storm of forks, vforks and execs in which a careless filter books a child's
// pages as its parent's.
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <functional>
#include <string>
#include <vector>

#include "bpf/account.h"
#include "tests/bpf/watched.h"
#include "tests/support/subprocess.h"

namespace procguard::test {
namespace {

constexpr std::uint64_t kParent = 32 * kMiB;
constexpr std::uint64_t kMore = 8 * kMiB;

class MemoryBorrowed : public Watched {};

// A child made by vfork(2) proper: the parent waits until it ends or execs.
[[gnu::noinline]] void vfork_child(const std::function<void()>& body) {
  const pid_t parent = ::getpid();
  const pid_t pid = ::vfork();
  if (pid == 0) {
    limit_life(parent);
    body();
    ::_exit(0);
  }
  ::waitpid(pid, nullptr, 0);
}

TEST_F(MemoryBorrowed, VforkedChildCountsOnce) {
  Peer peer([](Script& line) {
    char* more = map_pages(kMore);
    touch(map_pages(kParent), kParent);
    line.hear();
    vfork_child([&] {
      line.say(::getpid());
      line.hear();
      touch(more, kMore);  // pages of its parent's
      line.say();
      line.hear();
      ::execl("/bin/sleep", "sleep", "60", nullptr);
      ::_exit(3);
    });
  });
  const auto id = watch_tree(peer.pid());
  const auto child = static_cast<pid_t>(peer.ask());
  const std::uint64_t before = rss_of(peer.pid()).total;
  expect_exact(id, peer.pid(), "vforked");
  EXPECT_EQ(levels(id).processes, 2U);
  EXPECT_TRUE(is_member(id, child));
  peer.ask();
  expect_exact(id, peer.pid(), "the child grew its parent");
  EXPECT_GE(rss_of(peer.pid()).total, before + kMore);
  EXPECT_GE(process(peer.pid()).remote_grown_bytes, kMore) << "not by a thread of the parent's";

  peer.tell();
  ASSERT_TRUE(wait_until([&] { return process(child).exec_ns != 0; }));
  ASSERT_TRUE(at_rest({peer.pid(), child}));
  EXPECT_EQ(levels(id).memory_bytes, rss_of(peer.pid()).total + rss_of(child).total);
  EXPECT_EQ(levels(id).memory_plain_bytes, levels(id).memory_bytes);
  ::kill(child, SIGKILL);
  peer.wait();
}

TEST_F(MemoryBorrowed, CloneVmChildCountsOnce) {
  Peer peer([](Script& line) {
    touch(map_pages(kParent), kParent);
    line.hear();
    const pid_t child = clone_vm_child([&line] {
      line.hear();
      touch(map_pages(kMore), kMore);
      line.say();
      ::pause();
    });
    line.say(child);
    ::waitpid(child, nullptr, 0);
    line.say();
    line.hear();
  });
  const auto id = watch_tree(peer.pid());
  const auto child = static_cast<pid_t>(peer.ask());
  expect_exact(id, peer.pid(), "cloned");
  EXPECT_EQ(levels(id).processes, 2U);
  peer.ask();
  expect_exact(id, peer.pid(), "the child grew");
  EXPECT_EQ(levels(id).processes, 2U);
  ::kill(child, SIGKILL);
  peer.hear();
  expect_exact(id, peer.pid(), "the child has ended");
  EXPECT_EQ(levels(id).processes, 1U);
}

// Otherwise a process gets out of every limit with one clone(2).
TEST_F(MemoryBorrowed, CloneVmChildOutlivesItsParent) {
  Peer peer([](Script& line) {
    touch(map_pages(kParent), kParent);
    line.hear();
    const auto body = [&line] {
      outlive_parent();
      line.say(::getpid());
      line.hear();
      touch(map_pages(kMore), kMore);
      line.say();
      ::pause();
    };
    clone_vm_child(body);
    ::pause();
  });
  const auto id = watch_tree(peer.pid());
  const auto child = static_cast<pid_t>(peer.ask());
  ASSERT_TRUE(at_rest({child}));
  ::kill(peer.pid(), SIGKILL);
  ASSERT_TRUE(wait_until([&] { return process_state(peer.pid()) == 'Z'; }));
  expect_exact(id, child, "the parent has ended");
  EXPECT_EQ(levels(id).processes, 1U);
  peer.ask();
  expect_exact(id, child, "and the child grew");
  EXPECT_GE(levels(id).memory_bytes, kParent + kMore);
  ::kill(child, SIGKILL);
}

TEST_F(MemoryBorrowed, CloneVmChildAndItsParentExecs) {
  Peer peer([](Script& line) {
    touch(map_pages(kParent), kParent);
    line.hear();
    const auto body = [&line] {
      outlive_parent();
      line.say(::getpid());
      sleep_on();
    };
    clone_vm_child(body);
    line.hear();
    ::execl("/bin/sleep", "sleep", "60", nullptr);
    ::_exit(3);
  });
  const auto id = watch_tree(peer.pid());
  const auto child = static_cast<pid_t>(peer.ask());
  peer.tell();
  ASSERT_TRUE(wait_until([&] { return process(peer.pid()).exec_ns != 0; }));
  ASSERT_TRUE(at_rest({peer.pid(), child}));
  EXPECT_EQ(levels(id).memory_bytes, rss_of(peer.pid()).total + rss_of(child).total);
  EXPECT_GE(rss_of(child).total, kParent);
  ::kill(child, SIGKILL);
}

// Of two borrowers only one may take over what they both borrowed.
TEST_F(MemoryBorrowed, OfTwoBorrowersOneInherits) {
  Peer peer([](Script& line) {
    touch(map_pages(kParent), kParent);
    line.hear();
    const auto body = [&line] {
      outlive_parent();
      line.say(::getpid());
      sleep_on();
    };
    clone_vm_child(body);
    line.hear();
    clone_vm_child(body);
    ::pause();
  });
  const auto id = watch_tree(peer.pid());
  const auto one = static_cast<pid_t>(peer.ask());
  const auto other = static_cast<pid_t>(peer.ask());
  ASSERT_TRUE(at_rest({one, other}));
  ::kill(peer.pid(), SIGKILL);
  ASSERT_TRUE(wait_until([&] { return levels(id).processes == 2; }));
  EXPECT_EQ(levels(id).memory_bytes, rss_of(one).total);
  ::kill(one, SIGKILL);
  ::kill(other, SIGKILL);
}

// Half of a fork's events on a child's pages carry the parent's pid.
TEST_F(MemoryBorrowed, ForkExecStormNeverOverwritesTheParent) {
  constexpr std::uint64_t kSize = 64 * kMiB;
  // What it may be beyond its own pages: libc, and 4 children, each some pages or /bin/true.
  constexpr std::uint64_t kBeside = 6 * kMiB;
  constexpr std::uint64_t kChildren = 4 * 4 * kMiB;
  Peer peer = Peer::program({program("fork_exec_storm"), "64M", "100"});
  const auto id = watch_tree(peer.pid());
  limit_memory(id, kSize + kBeside + kChildren);
  peer.tell();
  ASSERT_TRUE(wait_until([&] {  // that it is the program, and has its size
    return process(peer.pid()).exec_ns != 0 && levels(id).memory_bytes >= kSize;
  }));
  int samples = 0;
  for (;;) {
    const auto parent = programs().process(static_cast<std::uint32_t>(peer.pid()));
    if (!parent) {
      break;  // it has ended
    }
    const std::uint64_t rss = pg_plain_bytes(&*parent);
    ++samples;
    if (process_state(peer.pid()) != 'Z' && (rss < kSize || rss > kSize + kBeside)) {
      const auto still = programs().process(static_cast<std::uint32_t>(peer.pid()));
      ASSERT_TRUE(!still || still->flags & PG_PROCESS_DEAD)
          << "the parent's RSS reads " << rss << " in sample " << samples;
    }
  }
  EXPECT_EQ(peer.wait(), 0);
  EXPECT_GT(samples, 100);
  EXPECT_EQ(levels(id).memory[0].episodes, 0U) << "peak " << levels(id).memory_peak_bytes;
  EXPECT_EQ(levels(id).memory_bytes, 0U);
  EXPECT_EQ(levels(id).memory_plain_bytes, 0U);
  EXPECT_GT(levels(id).memory_plain_peak_bytes, 2 * kSize) << "the plain sum counts shared pages";
}

}  // namespace
}  // namespace procguard::test
