// SPDX-License-Identifier: Apache-2.0
// What threads do with their time, compared with the kernel's own books: on a CPU, waiting for one,
// asleep, waiting for a disk or in a state of the kernel's, stopped.
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <string>
#include <thread>
#include <vector>

#include "sys/procfs.h"
#include "tests/bpf/watched.h"

namespace procguard::test {
namespace {

using std::chrono::milliseconds;

constexpr core::Ns kMs = core::kMillisecond;

class ThreadsTime : public Watched {
 protected:
  engine::ThreadUsage of(engine::WatchId id, pid_t tid) {
    const auto usage = source().usage(id);
    for (const engine::ThreadUsage& thread : usage->threads) {
      if (thread.tid == tid && thread.state != 'X') {
        return thread;
      }
    }
    ADD_FAILURE() << "no usage of thread " << tid;
    return {};
  }
  sys::Schedstat schedstat(pid_t pid, pid_t tid) {
    return sys::ProcRoot().thread_schedstat(pid, tid).value();
  }
  sys::Status status(pid_t pid, pid_t tid) {
    return sys::ProcRoot().thread_status(pid, tid).value();
  }
};

void expect_between(core::Ns value, core::Ns low, core::Ns high, const char* what) {
  EXPECT_GE(value, low) << what;
  EXPECT_LE(value, high) << what;
}

void sleep_for(milliseconds time) {
  std::this_thread::sleep_for(time);
}

TEST_F(ThreadsTime, Asleep) {
  Peer peer([](Script& line) { line.hear(); });
  ASSERT_TRUE(at_rest({peer.pid()}));
  const auto id = watch_process(peer.pid());
  const core::Ns begin = clock_.now();
  const pg_usage first = of(id, peer.pid()).usage;
  sleep_for(milliseconds(200));
  const core::Ns slept = clock_.now() - begin;
  const engine::ThreadUsage now = of(id, peer.pid());
  EXPECT_EQ(now.state, 'S');
  expect_between(now.usage.blocked_ns[PG_BLOCKED_SLEEP] - first.blocked_ns[PG_BLOCKED_SLEEP],
                 slept - 20 * kMs, clock_.now() - begin, "a sleep in progress counts");
  EXPECT_EQ(now.usage.cpu_ns, first.cpu_ns);
  EXPECT_EQ(now.usage.blocked_ns[PG_BLOCKED_DISK], 0U);
  EXPECT_EQ(now.usage.blocked_ns[PG_BLOCKED_OTHER], 0U);
}

// A vfork's parent waits in the state that disks are waited in.
TEST_F(ThreadsTime, Uninterruptible) {
  Peer peer([](Script& line) {
    line.hear();
    const pid_t parent = ::getpid();
    const pid_t child = ::vfork();
    if (child == 0) {
      limit_life(parent);
      line.say();
      line.hear();
      ::_exit(0);
    }
    ::waitpid(child, nullptr, 0);
    line.say();
    line.hear();
  });
  const auto id = watch_process(peer.pid());
  peer.ask();
  ASSERT_TRUE(wait_until([&] { return process_state(peer.pid()) == 'D'; }));
  sleep_for(milliseconds(100));
  EXPECT_EQ(of(id, peer.pid()).state, 'D');
  expect_between(of(id, peer.pid()).usage.blocked_ns[PG_BLOCKED_DISK], 90 * kMs, 10'000 * kMs,
                 "in progress");
  peer.ask();
  ASSERT_TRUE(at_rest({peer.pid()}));
  expect_between(of(id, peer.pid()).usage.blocked_ns[PG_BLOCKED_DISK], 90 * kMs, 10'000 * kMs,
                 "done");
}

TEST_F(ThreadsTime, Stopped) {
  Peer peer([](Script& line) {
    for (;;) {
      line.hear();
      line.say();
    }
  });
  const auto id = watch_process(peer.pid());
  peer.ask();
  ASSERT_EQ(::kill(peer.pid(), SIGSTOP), 0);
  ASSERT_TRUE(wait_until([&] { return process_state(peer.pid()) == 'T'; }));
  sleep_for(milliseconds(100));
  EXPECT_EQ(of(id, peer.pid()).state, 'T');
  ::kill(peer.pid(), SIGCONT);
  peer.ask();
  ASSERT_TRUE(at_rest({peer.pid()}));
  expect_between(of(id, peer.pid()).usage.blocked_ns[PG_BLOCKED_OTHER], 90 * kMs, 10'000 * kMs,
                 "stopped");
}

// Three threads want one CPU: most of their time they wait for it.
TEST_F(ThreadsTime, RunQueueWaitIsTheKernels) {
  constexpr int kThreads = 3;
  Peer peer([](Script& line) {
    pin_to_cpu(0);
    const auto work = [&line] {
      line.say(::gettid());
      line.hear();
      burn_cpu(milliseconds(60));
      line.say();
      ::pause();
    };
    std::vector<std::thread> others;
    for (int i = 1; i < kThreads; ++i) {
      others.emplace_back(work);
    }
    work();
  });
  std::vector<pid_t> tids;
  for (int i = 0; i < kThreads; ++i) {
    tids.push_back(static_cast<pid_t>(peer.hear()));
  }
  ASSERT_TRUE(at_rest({peer.pid()}));
  const auto id = watch_process(peer.pid());
  std::vector<sys::Schedstat> kernel_before;
  for (const pid_t tid : tids) {
    kernel_before.push_back(schedstat(peer.pid(), tid));
  }
  const core::Ns begin = clock_.now();
  for (int i = 0; i < kThreads; ++i) {
    peer.tell();
  }
  for (int i = 0; i < kThreads; ++i) {
    peer.hear();
  }
  ASSERT_TRUE(at_rest({peer.pid()}));
  const core::Ns wall = clock_.now() - begin;
  core::Ns waited = 0;
  for (int i = 0; i < kThreads; ++i) {
    const sys::Schedstat kernel = schedstat(peer.pid(), tids[static_cast<unsigned>(i)]);
    const sys::Schedstat& before = kernel_before[static_cast<unsigned>(i)];
    const pg_usage ours = of(id, tids[static_cast<unsigned>(i)]).usage;
    const core::Ns wait = kernel.runnable_wait_ns - before.runnable_wait_ns;
    const core::Ns cpu = kernel.cpu_ns - before.cpu_ns;
    waited += wait;
    EXPECT_EQ(ours.runnable_wait_ns, wait) << "thread " << i;
    EXPECT_EQ(ours.cpu_ns, cpu) << "thread " << i;
    // All of its time is in one of the four.
    const core::Ns all = ours.cpu_ns + ours.runnable_wait_ns + ours.blocked_ns[PG_BLOCKED_SLEEP] +
                         ours.blocked_ns[PG_BLOCKED_DISK] + ours.blocked_ns[PG_BLOCKED_OTHER];
    expect_between(all, wall - wall / 20, wall + wall / 20 + 20 * kMs, "all of a thread's time");
  }
  EXPECT_GE(waited, 60 * kMs) << "the test made nobody wait";
}

TEST_F(ThreadsTime, SwitchesAreTheKernels) {
  Peer peer([](Script& line) {
    pin_to_cpu(0);
    line.hear();
    const pid_t rival = fork_child([] { burn_cpu(milliseconds(1000)); });
    for (int i = 0; i < 50; ++i) {
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    burn_cpu(milliseconds(60));
    ::kill(rival, SIGKILL);
    ::waitpid(rival, nullptr, 0);
    line.say();
    line.hear();
  });
  ASSERT_TRUE(at_rest({peer.pid()}));
  const auto id = watch_process(peer.pid());
  const sys::Status before = status(peer.pid(), peer.pid());
  peer.ask();
  ASSERT_TRUE(at_rest({peer.pid()}));
  const sys::Status after = status(peer.pid(), peer.pid());
  const pg_usage ours = of(id, peer.pid()).usage;
  EXPECT_NEAR(static_cast<double>(ours.voluntary_switches),
              static_cast<double>(after.voluntary_switches - before.voluntary_switches), 2);
  EXPECT_NEAR(static_cast<double>(ours.involuntary_switches),
              static_cast<double>(after.involuntary_switches - before.involuntary_switches), 2);
  EXPECT_GE(ours.voluntary_switches, 50U);
  EXPECT_GE(ours.involuntary_switches, 3U) << "a rival on the same CPU";
}

TEST_F(ThreadsTime, EndedThreadsAreInTheTotal) {
  Peer peer([](Script& line) {
    line.hear();
    for (int i = 0; i < 3; ++i) {
      std::thread([] {
        burn_cpu(milliseconds(20));
        std::this_thread::sleep_for(milliseconds(20));
      }).join();
    }
    line.say();
    line.hear();
  });
  const auto id = watch_tree(peer.pid());
  peer.ask();
  ASSERT_TRUE(at_rest({peer.pid()}));
  const auto usage = source().usage(id);
  EXPECT_EQ(process(peer.pid()).threads, 1U);
  EXPECT_GE(usage->total.cpu_ns, 60 * kMs);
  EXPECT_GE(usage->total.blocked_ns[PG_BLOCKED_SLEEP], 60 * kMs);
  EXPECT_GE(usage->total.voluntary_switches, 3U);
  EXPECT_LT(of(id, peer.pid()).usage.cpu_ns, 60 * kMs) << "not this thread's";
}

// A watch on one thread counts that one only, ended threads included.
TEST_F(ThreadsTime, ThreadScopeIsOneThread) {
  Peer peer([](Script& line) {
    std::thread other([&line] {
      line.say(::gettid());
      line.hear();
      burn_cpu(milliseconds(50));
      line.say();
      line.hear();
    });
    other.join();
    burn_cpu(milliseconds(50));
    line.say();
    line.hear();
  });
  const auto tid = static_cast<pid_t>(peer.hear());
  ASSERT_TRUE(at_rest({peer.pid()}));
  const auto one = watch_thread(peer.pid(), tid);
  const auto leader = watch_thread(peer.pid(), peer.pid());
  peer.ask();
  ASSERT_TRUE(at_rest({peer.pid()}));
  ASSERT_EQ(source().usage(one)->threads.size(), 1U);
  EXPECT_EQ(source().usage(one)->threads[0].tid, tid);
  EXPECT_GE(levels(one).cpu_ns, 50 * kMs);
  EXPECT_LT(levels(leader).cpu_ns, 25 * kMs);
  peer.ask();
  ASSERT_TRUE(at_rest({peer.pid()}));
  EXPECT_TRUE(levels(one).empty) << "the thread has ended";
  EXPECT_FALSE(levels(leader).empty);
  EXPECT_GE(source().usage(one)->total.cpu_ns, 50 * kMs);
  EXPECT_LT(source().usage(one)->total.cpu_ns, 90 * kMs) << "without the other's";
  EXPECT_GE(levels(leader).cpu_ns, 50 * kMs);
  EXPECT_LT(source().usage(leader)->total.voluntary_switches, 100U);
}

}  // namespace
}  // namespace procguard::test
