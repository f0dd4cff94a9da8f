// SPDX-License-Identifier: Apache-2.0
// A process stays what it is across exec, also one that is called by a thread which is not the
// leader: that thread takes over the leader's pid, and all others end.
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <string>
#include <thread>
#include <vector>

#include "tests/bpf/watched.h"
#include "tests/support/subprocess.h"

namespace procguard::test {
namespace {

using std::chrono::milliseconds;

class ExecIdentity : public Watched {
 protected:
  std::vector<pg_thread> threads_of(pid_t pid) {
    std::vector<pg_thread> mine;
    auto all = programs().threads();
    for (const pg_thread& thread : all.value()) {
      if (thread.tgid == static_cast<__u32>(pid) && thread.exiting == 0) {
        mine.push_back(thread);
      }
    }
    return mine;
  }
  bool becomes(pid_t pid, const std::string& comm) {
    return wait_until([&] { return comm == process(pid).comm; });
  }
  void expect_one_thread(pid_t pid) {
    const auto mine = threads_of(pid);
    ASSERT_EQ(mine.size(), 1U);
    EXPECT_EQ(mine[0].tid, static_cast<__u32>(pid));
    EXPECT_EQ(mine[0].start_ns, process(pid).start_ns);
    EXPECT_EQ(process(pid).threads, 1U);
  }
};

void exec_sleep() {
  ::execl("/bin/sleep", "sleep", "60", nullptr);
  ::_exit(3);
}

TEST_F(ExecIdentity, TimeOfExecIsKept) {
  Peer peer([](Script& line) {
    line.hear();
    exec_sleep();
  });
  const auto id = watch_tree(peer.pid());
  EXPECT_EQ(source().exec_time(id, peer.pid()), 0U);
  const core::Ns before = clock_.now();
  peer.tell();
  ASSERT_TRUE(becomes(peer.pid(), "sleep"));
  EXPECT_GE(source().exec_time(id, peer.pid()), before);
  EXPECT_LE(source().exec_time(id, peer.pid()), clock_.now());
  EXPECT_EQ(std::string(thread(peer.pid()).value_or(pg_thread{}).comm), "sleep");
  Peer other([](Script& line) { line.hear(); });
  EXPECT_EQ(source().exec_time(id, other.pid()), 0U) << "no member";
}

TEST_F(ExecIdentity, ExecThatFailsChangesNothing) {
  Peer peer([](Script& line) {
    line.hear();
    ::execl("/proc/self/no-such-program", "none", nullptr);
    line.say();
    line.hear();
  });
  const auto id = watch_tree(peer.pid());
  peer.ask();
  EXPECT_EQ(source().exec_time(id, peer.pid()), 0U);
  expect_exact(id, peer.pid(), "after an exec that failed");
}

TEST_F(ExecIdentity, ByTheLeaderEndsTheOtherThreads) {
  Peer peer([](Script& line) {
    std::vector<std::thread> others;
    for (int i = 0; i < 8; ++i) {
      others.emplace_back([] { ::pause(); });
    }
    line.hear();
    exec_sleep();
  });
  const auto id = watch_tree(peer.pid());
  ASSERT_TRUE(wait_until([&] { return threads_of(peer.pid()).size() == 9; }));
  peer.tell();
  ASSERT_TRUE(becomes(peer.pid(), "sleep"));
  expect_one_thread(peer.pid());
  expect_exact(id, peer.pid(), "after exec");
}

TEST_F(ExecIdentity, ByAnotherThread) {
  Peer peer = Peer::program({program("exec_by_thread"), "--", program("sleeper"), "--unready"});
  const auto id = watch_tree(peer.pid());
  const std::uint64_t start = process(peer.pid()).start_ns;
  peer.tell();
  ASSERT_TRUE(becomes(peer.pid(), "sleeper"));
  EXPECT_EQ(process(peer.pid()).start_ns, start);
  EXPECT_EQ(member_pids(id), std::vector<pid_t>{peer.pid()});
  EXPECT_EQ(levels(id).processes, 1U);
  EXPECT_FALSE(levels(id).empty);
  expect_one_thread(peer.pid());
  expect_exact(id, peer.pid(), "after exec");
  auto members = source().members(id);
  EXPECT_TRUE(source().open_member(id, members->front()).ok());
}

// What the thread did before it took over the leader's pid is still its own; what it does after
// that goes on being counted.
TEST_F(ExecIdentity, UsageGoesOn) {
  constexpr auto kBefore = milliseconds(60);
  Peer peer([&](Script& line) {
    std::thread other([&] {
      line.hear();
      burn_cpu(kBefore);
      const std::string spin = program("spin");
      ::execl(spin.c_str(), "spin", "--cpu", "1", nullptr);
      ::_exit(3);
    });
    ::pause();
  });
  const auto id = watch_tree(peer.pid());
  limit_cpu(id, milliseconds(150));
  peer.tell();
  ASSERT_TRUE(becomes(peer.pid(), "spin"));
  expect_one_thread(peer.pid());
  EXPECT_GE(thread(peer.pid()).value_or(pg_thread{}).usage.cpu_ns,
            static_cast<std::uint64_t>(std::chrono::nanoseconds(kBefore).count()) * 98 / 100);
  EXPECT_TRUE(edge(id)) << "the spinner goes on under its new number, and is seen";
  EXPECT_NE(levels(id).cpu.over_since_ns, 0U);
}

// A watch on the thread that execs stays with it; one on a thread that this ends is over.
TEST_F(ExecIdentity, WatchesOnThreads) {
  Peer peer([](Script& line) {
    std::thread other([&line] {
      line.say(::gettid());
      line.hear();
      const std::string spin = program("spin");
      ::execl(spin.c_str(), "spin", "--cpu", "1", nullptr);
      ::_exit(3);
    });
    ::pause();
  });
  const auto tid = static_cast<pid_t>(peer.hear());
  const auto leader = watch_thread(peer.pid(), peer.pid());
  const auto other = watch_thread(peer.pid(), tid);
  peer.tell();
  ASSERT_TRUE(becomes(peer.pid(), "spin"));
  EXPECT_TRUE(edge(leader));
  EXPECT_TRUE(levels(leader).empty) << "the thread has ended";
  EXPECT_FALSE(levels(other).empty);
  const std::uint64_t seen = levels(other).cpu_ns;
  EXPECT_TRUE(wait_until([&] { return levels(other).cpu_ns > seen + 20'000'000; }));
  EXPECT_LT(levels(leader).cpu_ns, levels(other).cpu_ns);
}

TEST_F(ExecIdentity, ManyThreadsRaceToExec) {
  for (int round = 0; round < 5; ++round) {
    SharedInts go(1);
    Peer peer([&go](Script& line) {
      std::vector<std::thread> others;
      for (int i = 0; i < 6; ++i) {
        others.emplace_back([&go] {
          wait_while(go[0], 0);
          exec_sleep();
        });
      }
      line.hear();
      go[0] = 1;
      wake_all(go[0]);
      exec_sleep();
    });
    const auto id = watch_tree(peer.pid());
    peer.tell();
    ASSERT_TRUE(becomes(peer.pid(), "sleep"));
    expect_one_thread(peer.pid());
    expect_exact(id, peer.pid(), "after exec");
    source().release(id);
  }
}

}  // namespace
}  // namespace procguard::test
