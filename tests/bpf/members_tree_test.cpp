// SPDX-License-Identifier: Apache-2.0
// Membership in a tree: whoever descends from a member is one before it runs, by whatever way it
// was made and wherever it went; none is left when all have ended.
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/bpf/watched.h"

namespace procguard::test {
namespace {

class MembersTree : public Watched {};

// ---- thousands of children ----------------------------------------------------------------------

constexpr int kWave = 200;  // tasks that live at the same time
constexpr int kWaves = 8;

// Where the tasks of a wave sign in, and what they wait for.
struct Register {
  SharedInts pids{kWave};  // negative: a thread
  SharedInts count{1};
  SharedInts gate{1};

  void sign(int pid) {
    const int wave = gate[0];
    pids[static_cast<std::size_t>(count[0]++)] = pid;
    wait_while(gate[0], wave);
  }
};

void double_fork(Register& book) {
  const pid_t middle = fork_child([&book] {
    ::setsid();
    fork_orphan([&book] { book.sign(::getpid()); });
  });
  ::waitpid(middle, nullptr, 0);
}

// A child that has a child of its own by vfork: two that sign.
void fork_that_vforks(Register& book) {
  fork_child([&book] {
    const pid_t parent = ::getpid();
    const pid_t pid = ::vfork();
    if (pid == 0) {
      limit_life(parent);
      book.sign(::getpid());
      ::_exit(0);
    }
    ::waitpid(pid, nullptr, 0);
    book.sign(::getpid());
  });
}

void run_waves(Script& line, Register& book) {
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  for (int wave = 0; wave < kWaves; ++wave) {
    line.hear();
    std::vector<std::thread> threads;
    for (int i = 0; i < kWave; ++i) {
      switch (i % 5) {
        case 0:
          fork_child([&book] { book.sign(::getpid()); });
          break;
        case 1:
          double_fork(book);
          break;
        case 2:
          threads.emplace_back([&book] { book.sign(-::gettid()); });
          break;
        case 3:
          clone_vm_child([&book] { book.sign(::getpid()); });
          break;
        default:
          fork_that_vforks(book);
          break;
      }
    }
    line.say();
    line.hear();
    book.count[0] = 0;
    ++book.gate[0];
    wake_all(book.gate[0]);
    for (auto& thread : threads) {
      thread.join();
    }
    // The vforkers sign once more, for themselves.
    while (::waitpid(-1, nullptr, __WALL | WNOHANG) >= 0 || errno != ECHILD) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      ++book.gate[0];
      wake_all(book.gate[0]);
    }
    book.count[0] = 0;
    line.say();
  }
}

TEST_F(MembersTree, NoneOfThousandsEscapes) {
  Register book;
  Peer peer([&book](Script& line) { run_waves(line, book); });
  const auto id = watch_tree(peer.pid());
  int seen = 0;
  for (int wave = 0; wave < kWaves && !HasFailure(); ++wave) {
    peer.ask();
    ASSERT_TRUE(wait_until([&] { return book.count[0] == kWave; }))
        << book.count[0] << " in wave " << wave << ", state " << process_state(peer.pid());
    const auto members = member_pids(id);
    std::set<__u32> tids;
    const auto threads = programs().threads();
    for (const pg_thread& thread : threads.value()) {
      tids.insert(thread.tid);
    }
    int processes = 0;
    for (int i = 0; i < kWave; ++i) {
      const int pid = book.pids[static_cast<std::size_t>(i)];
      EXPECT_TRUE(tids.contains(static_cast<__u32>(std::abs(pid)))) << pid;
      if (pid > 0) {
        EXPECT_TRUE(std::binary_search(members.begin(), members.end(), pid)) << pid;
        ++processes;
      }
      ++seen;
    }
    EXPECT_EQ(processes, kWave * 4 / 5);
    EXPECT_FALSE(levels(id).degraded);
    peer.ask();
    EXPECT_TRUE(wait_until([&] { return levels(id).processes <= 1; })) << levels(id).processes;
    if (wave + 1 < kWaves) {
      EXPECT_EQ(process(peer.pid()).threads, 1U);
    }
  }
  EXPECT_EQ(seen, kWave * kWaves);
  peer.wait();
  EXPECT_TRUE(levels(id).empty);
}

TEST_F(MembersTree, ShortLivedChildrenLeaveNothing) {
  Peer peer([](Script& line) {
    line.hear();
    const auto fork_many = [] {
      for (int i = 0; i < 400; ++i) {
        const pid_t pid = fork_child([] { ::_exit(0); });
        if (i % 2 == 0) {
          std::thread([] {}).join();
        }
        ::waitpid(pid, nullptr, 0);
      }
    };
    std::thread other(fork_many);
    fork_many();
    other.join();
    line.say();
    line.hear();
  });
  const auto id = watch_tree(peer.pid());
  peer.tell();
  peer.hear(std::chrono::seconds(60));
  EXPECT_TRUE(wait_until([&] { return levels(id).processes == 1; }));
  expect_exact(id, peer.pid(), "after 800 children");
  EXPECT_EQ(programs().processes()->size(), 1U);
}

// ---- what is alive when the watch begins
// ----------------------------------------------------------

TEST_F(MembersTree, LiveDescendantsAreEnrolled) {
  Peer peer([](Script& line) {
    const auto deeper = [&line](auto& self, int depth) -> void {
      line.say(::getpid());
      if (depth > 0) {
        fork_child([&] { self(self, depth - 1); });
      }
      line.hear();
    };
    deeper(deeper, 4);
  });
  std::vector<pid_t> pids;
  for (int i = 0; i < 5; ++i) {
    pids.push_back(static_cast<pid_t>(peer.hear()));
  }
  std::sort(pids.begin(), pids.end());
  const auto id = watch_tree(pids.front());
  EXPECT_EQ(member_pids(id), pids);
  EXPECT_EQ(levels(id).processes, 5U);
  const auto branch = watch_tree(pids[2]);
  EXPECT_EQ(levels(branch).processes, 3U) << "a branch is a tree";
  EXPECT_FALSE(is_member(branch, pids[1]));
}

// The enrolment goes through the list of processes while they come and go.
TEST_F(MembersTree, ArmedBesideAForkStorm) {
  SharedInts stop(1);
  Peer peer([&stop](Script& line) {
    const auto storm = [&stop] {
      while (stop[0] == 0) {
        const pid_t pid = fork_child([] {
          fork_child([] { ::_exit(0); });
          std::thread([] {}).join();
          ::_exit(0);
        });
        ::waitpid(pid, nullptr, 0);
      }
    };
    std::thread other(storm);
    storm();
    other.join();
    line.say();
    line.hear();
  });
  for (int round = 0; round < 400; ++round) {
    const auto id = watch_tree(peer.pid());
    ASSERT_NE(id, 0U);
    EXPECT_TRUE(is_member(id, peer.pid()));
    source().release(id);
  }
  const auto id = watch_tree(peer.pid());
  stop[0] = 1;
  peer.hear();
  EXPECT_TRUE(wait_until([&] { return levels(id).processes == 1; }))
      << levels(id).processes << " processes are counted";
  expect_exact(id, peer.pid(), "after the storm");
  EXPECT_EQ(process(peer.pid()).threads, 1U);
}

TEST_F(MembersTree, EndsWithItsLastMember) {
  Peer peer([](Script& line) {
    line.hear();
    line.say(fork_orphan(sleep_on));
  });
  const auto id = watch_tree(peer.pid());
  const auto child = static_cast<pid_t>(peer.ask());
  peer.wait();
  ASSERT_TRUE(wait_until([&] { return levels(id).processes == 1; }));
  EXPECT_FALSE(levels(id).empty) << "the root has ended, the tree has not";
  EXPECT_TRUE(is_member(id, child));
  source().drain();
  ::kill(child, SIGKILL);
  EXPECT_TRUE(edge(id)) << "nobody has to ask";
  EXPECT_TRUE(levels(id).empty);
  EXPECT_TRUE(member_pids(id).empty());
}

}  // namespace
}  // namespace procguard::test
