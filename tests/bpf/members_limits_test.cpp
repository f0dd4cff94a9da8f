// SPDX-License-Identifier: Apache-2.0
// Maps that are too small: what does not fit is counted and said, the watches it should have been
// in are marked, and nothing else goes wrong.
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/bpf/watched.h"

namespace procguard::test {
namespace {

class MembersLimits : public Watched {
 protected:
  void SetUp() override {
    Watched::SetUp();
    losses_are_expected();
  }
  static kernel::LoadOptions sizes(std::uint32_t processes, std::uint32_t threads) {
    kernel::LoadOptions options;
    options.processes = processes;
    options.threads = threads;
    return options;
  }
};

// Told N > 0 it forks N children that sleep on; told 0 it ends them.
Peer forker() {
  return Peer([](Script& line) {
    std::vector<pid_t> children;
    for (;;) {
      const std::int64_t count = line.hear();
      for (std::int64_t i = 0; i < count; ++i) {
        children.push_back(fork_child(sleep_on));
      }
      if (count == 0) {
        for (const pid_t child : children) {
          ::kill(child, SIGKILL);
          ::waitpid(child, nullptr, 0);
        }
        children.clear();
      }
      line.say();
    }
  });
}

TEST_F(MembersLimits, MoreProcessesThanFit) {
  load(sizes(4, 64));
  Peer peer = forker();
  const auto id = watch_tree(peer.pid());
  source().drain();
  peer.ask(10);
  EXPECT_TRUE(levels(id).degraded);
  EXPECT_TRUE(edge(id)) << "it is told";
  EXPECT_GE(programs().losses().processes, 6U);
  const auto members = member_pids(id);
  EXPECT_GE(members.size(), 1U);
  EXPECT_LE(members.size(), 4U + 2U);  // a spare entry a CPU
  EXPECT_EQ(levels(id).processes, members.size());
  peer.ask(0);
  EXPECT_TRUE(wait_until([&] { return levels(id).processes == 1; })) << levels(id).processes;
  expect_exact(id, peer.pid(), "when there is room again");
  peer.ask(2);
  EXPECT_EQ(levels(id).processes, 3U) << "there is room again";
  EXPECT_TRUE(levels(id).degraded) << "somebody may still be missing";
}

TEST_F(MembersLimits, MoreThreadsThanFit) {
  load(sizes(64, 4));
  Peer peer([](Script& line) {
    line.hear();
    std::vector<std::thread> threads;
    SharedInts gate(1);
    for (int i = 0; i < 12; ++i) {
      threads.emplace_back([&gate] { wait_while(gate[0], 0); });
    }
    line.say();
    line.hear();
    gate[0] = 1;
    wake_all(gate[0]);
    for (auto& thread : threads) {
      thread.join();
    }
    line.say();
    line.hear();
  });
  const auto id = watch_process(peer.pid());
  peer.ask();
  EXPECT_TRUE(levels(id).degraded);
  EXPECT_GE(programs().losses().threads, 6U);
  expect_exact(id, peer.pid(), "memory is counted all the same");
  peer.ask();
  EXPECT_TRUE(wait_until([&] { return process(peer.pid()).threads <= 1; }));
  EXPECT_EQ(levels(id).processes, 1U);
}

TEST_F(MembersLimits, ProcessesThatAreAliveDoNotFit) {
  load(sizes(4, 64));
  Peer peer = forker();
  peer.ask(10);
  const auto id = watch_tree(peer.pid());
  EXPECT_TRUE(levels(id).degraded);
  EXPECT_LE(levels(id).processes, 6U);
}

// The parent is outside: only the cgroup tells which watch the child should have been in.
TEST_F(MembersLimits, BornIntoACgroupThatIsFull) {
  load(sizes(4, 64));
  TestCgroup cgroup;
  Peer peer([&cgroup](Script& line) {
    const int directory = ::open(cgroup.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    line.hear();
    for (int i = 0; i < 10; ++i) {
      clone_child(0, sleep_on, 0, directory);
    }
    line.say();
    line.hear();
  });
  const auto id = watch_cgroup(cgroup);
  peer.ask();
  EXPECT_TRUE(levels(id).degraded);
  EXPECT_TRUE(edge(id));
}

TEST_F(MembersLimits, MovedIntoACgroupThatIsFull) {
  load(sizes(2, 64));
  TestCgroup cgroup;
  std::vector<Peer> peers;
  for (int i = 0; i < 8; ++i) {
    peers.emplace_back([](Script& line) { line.hear(); });
  }
  const auto id = watch_cgroup(cgroup);
  for (const Peer& peer : peers) {
    cgroup.add(peer.pid());
  }
  EXPECT_TRUE(levels(id).degraded);
  EXPECT_GE(programs().losses().processes, 4U);
}

TEST_F(MembersLimits, MoreWatchesThanAProcessBears) {
  Peer peer = forker();
  for (int i = 0; i < PG_MEMBERSHIPS; ++i) {
    EXPECT_NE(watch_process(peer.pid()), 0U) << i;
  }
  const auto ninth = source().watch(target(PG_SCOPE_PROCESS, peer.pid()));
  ASSERT_FALSE(ninth.ok()) << "it would not guard anything";
  EXPECT_EQ(ninth.error().code(), ENOSPC) << ninth.error().message();
  EXPECT_GE(programs().losses().memberships, 1U);
}

// Whom kill(2)'s uid rule binds does not fill a process up for those whom it does not.
TEST_F(MembersLimits, SomeOfThemAreForOwnersThatMaySignalEverybody) {
  Peer peer = forker();
  engine::Target bound = target(PG_SCOPE_PROCESS, peer.pid());
  bound.any_uid = false;
  for (int i = 0; i < PG_BOUND_MEMBERSHIPS; ++i) {
    EXPECT_NE(watch(bound), 0U) << i;
  }
  const auto refused = source().watch(bound);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), ENOSPC) << refused.error().message();
  for (int i = PG_BOUND_MEMBERSHIPS; i < PG_MEMBERSHIPS; ++i) {
    EXPECT_NE(watch_process(peer.pid()), 0U) << i;
  }
}

// Makes a process whose number is to be written to memory that is never there: it stays new for as
// long as its parent lives.
void make_one_for_ever(Script& line) {
  const long handler = ::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
  uffdio_api api{};
  api.api = UFFD_API;
  void* absent = map_pages(4 * kKiB);
  uffdio_register range{};
  range.range = {.start = reinterpret_cast<std::uint64_t>(absent), .len = 4 * kKiB};
  range.mode = UFFDIO_REGISTER_MODE_MISSING;
  const int fd = static_cast<int>(handler);
  const bool ready =
      ::ioctl(fd, UFFDIO_API, &api) == 0 && ::ioctl(fd, UFFDIO_REGISTER, &range) == 0;
  line.say(ready ? 1 : 0);
  if (::syscall(SYS_clone, CLONE_PARENT_SETTID | SIGCHLD, nullptr, absent, nullptr, 0) == 0) {
    ::_exit(0);
  }
}

TEST_F(MembersLimits, AProcessThatIsNeverMadeIsNotWaitedForForEver) {
  Peer peer(make_one_for_ever);
  ASSERT_EQ(peer.hear(), 1) << "userfaultfd";
  const std::string number = std::to_string(peer.pid());
  std::string child;
  ASSERT_TRUE(wait_until([&] {
    std::ifstream("/proc/" + number + "/task/" + number + "/children") >> child;
    return !child.empty();
  }));
  const auto refused = source().watch(target(PG_SCOPE_PROCESS, std::stoi(child)));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), EAGAIN) << refused.error().message();
  const auto tree = watch_tree(peer.pid());
  EXPECT_TRUE(levels(tree).degraded);
  EXPECT_EQ(levels(tree).processes, 1U);
}

TEST_F(MembersLimits, AnInheritedWatchTooMany) {
  TestCgroup cgroup;
  Peer peer = forker();
  std::vector<engine::WatchId> trees;
  for (int i = 0; i < PG_MEMBERSHIPS; ++i) {
    trees.push_back(watch_tree(peer.pid()));
  }
  const auto id = watch_cgroup(cgroup);
  cgroup.add(peer.pid());
  EXPECT_TRUE(levels(id).degraded);
  EXPECT_FALSE(is_member(id, peer.pid()));
  for (const auto tree : trees) {
    EXPECT_FALSE(levels(tree).degraded);
    EXPECT_EQ(levels(tree).processes, 1U);
  }
  source().release(trees.front());
  peer.ask(1);
  EXPECT_EQ(levels(id).processes, 1U) << "a child has room for it";
}

TEST_F(MembersLimits, MoreWatchesThanThereAre) {
  kernel::LoadOptions two;
  two.watches = 2;
  load(two);
  Peer peer = forker();
  const auto first = watch_process(peer.pid());
  EXPECT_NE(watch_tree(peer.pid()), 0U);
  const auto third = source().watch(target(PG_SCOPE_PROCESS, peer.pid()));
  ASSERT_FALSE(third.ok());
  EXPECT_EQ(third.error().code(), ENOSPC);
  source().release(first);
  EXPECT_NE(watch_process(peer.pid()), first) << "an id is not used again";
}

}  // namespace
}  // namespace procguard::test
