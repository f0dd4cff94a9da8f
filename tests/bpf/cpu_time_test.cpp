// SPDX-License-Identifier: Apache-2.0
// On-CPU time: what threads and trees used equals getrusage within 2 % (threads over 10 ms), and a
// CPU limit is heard of without anybody asking, however rarely the target is switched out.
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <ctime>
#include <map>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

#include "tests/bpf/watched.h"
#include "tests/support/subprocess.h"

namespace procguard::test {
namespace {

using std::chrono::milliseconds;

constexpr core::Ns kMs = core::kMillisecond;

core::Ns ns_of(const timeval& time) {
  return static_cast<core::Ns>(time.tv_sec) * core::kSecond +
         static_cast<core::Ns>(time.tv_usec) * core::kMicrosecond;
}

core::Ns cpu_of(const rusage& used) {
  return ns_of(used.ru_utime) + ns_of(used.ru_stime);
}

std::int64_t clock_ns(clockid_t id) {
  timespec time{};
  ::clock_gettime(id, &time);
  return time.tv_sec * static_cast<std::int64_t>(core::kSecond) + time.tv_nsec;
}

void expect_within(core::Ns actual, core::Ns expected, double share, const std::string& what) {
  EXPECT_NEAR(static_cast<double>(actual), static_cast<double>(expected),
              static_cast<double>(expected) * share)
      << what;
}

class CpuTime : public Watched {};

TEST_F(CpuTime, OfEachThreadAndTheirSum) {
  constexpr std::int64_t kTid = std::int64_t{1} << 40;  // tid and time in one word
  const std::vector<int> work_ms = {20, 60, 120, 180};
  Peer peer([&](Script& line) {
    line.hear();
    std::vector<std::thread> threads;
    for (const int ms : work_ms) {
      threads.emplace_back([&line, ms] {
        burn_cpu(milliseconds(ms));
        line.say(::gettid() * kTid + clock_ns(CLOCK_THREAD_CPUTIME_ID));
        ::pause();
      });
    }
    line.hear();
    line.say(clock_ns(CLOCK_PROCESS_CPUTIME_ID));
    ::pause();
  });
  ASSERT_TRUE(at_rest({peer.pid()}));
  const auto id = watch_process(peer.pid());
  peer.tell();
  std::map<pid_t, core::Ns> own;
  for (std::size_t i = 0; i < work_ms.size(); ++i) {
    const std::int64_t word = peer.hear();
    own[static_cast<pid_t>(word / kTid)] = static_cast<core::Ns>(word % kTid);
  }
  const auto kernel = static_cast<core::Ns>(peer.ask());
  ASSERT_TRUE(at_rest({peer.pid()}));
  core::Ns sum = 0;
  std::size_t compared = 0;
  const auto usage = source().usage(id);
  for (const engine::ThreadUsage& thread : usage->threads) {
    sum += thread.usage.cpu_ns;
    if (own.contains(thread.tid)) {
      expect_within(thread.usage.cpu_ns, own[thread.tid], 0.02, std::to_string(thread.tid));
      ++compared;
    }
  }
  EXPECT_EQ(compared, work_ms.size());
  expect_within(sum, kernel, 0.02, "sum of threads");
  EXPECT_EQ(levels(id).cpu_ns, sum);
}

// Ended processes and threads included; the watch has ended with the last of them.
TEST_F(CpuTime, OfATree) {
  Peer peer =
      Peer::program({program("spin"), "--processes", "3", "--threads", "2", "--cpu", "0.15"});
  const auto id = watch_tree(peer.pid());
  peer.tell();
  rusage used{};
  EXPECT_EQ(peer.wait(&used), 0);
  expect_within(levels(id).cpu_ns, cpu_of(used), 0.02, "tree");
  EXPECT_TRUE(levels(id).empty);
  EXPECT_EQ(source().usage(id)->total.cpu_ns, levels(id).cpu_ns);
}

TEST_F(CpuTime, LeaderExitsFirst) {
  Peer peer = Peer::program({program("leader_exits"), "spin", "0.2"});
  const auto id = watch_tree(peer.pid());
  peer.tell();
  rusage used{};
  EXPECT_EQ(peer.wait(&used), 0);
  EXPECT_GE(levels(id).cpu_ns, 20 * kMs);
  expect_within(levels(id).cpu_ns, cpu_of(used), 0.02, "by the other thread");
}

// Taking down its address space is most of what such a process does in the kernel, and it does it
// after its exit was told.
TEST_F(CpuTime, OfTheLastRunToo) {
  Peer peer = Peer::program({program("touch"), "256M"});
  const auto id = watch_tree(peer.pid());
  peer.tell();
  rusage used{};
  EXPECT_EQ(peer.wait(&used), 0);
  const auto all = static_cast<double>(cpu_of(used));
  EXPECT_TRUE(wait_until([&] { return static_cast<double>(levels(id).cpu_ns) > all * 0.98; }))
      << levels(id).cpu_ns << " of " << all;
  expect_within(levels(id).cpu_ns, cpu_of(used), 0.02, "toucher");
  EXPECT_EQ(source().usage(id)->total.cpu_ns, levels(id).cpu_ns);
}

// ---- limits -------------------------------------------------------------------------------------

struct Spinner {
  std::string name;
  std::vector<std::string> arguments;
  int threads;
};
void PrintTo(const Spinner& row, std::ostream* os) {
  *os << row.name;
}

class CpuLimit : public CpuTime, public testing::WithParamInterface<Spinner> {};

// The process is killed at the edge. What it used beyond the limit is what it did until the kernel
// told (10 % + 50 ms at most) and while this test needed to hear of it.
TEST_P(CpuLimit, EdgeComesInTime) {
  constexpr core::Ns kLimit = 200 * kMs;
  std::vector<std::string> command = {program("spin")};
  command.insert(command.end(), GetParam().arguments.begin(), GetParam().arguments.end());
  Peer peer = Peer::program(command);
  const auto id = watch_tree(peer.pid());
  limit_cpu(id, std::chrono::nanoseconds(kLimit));
  peer.tell();
  ASSERT_TRUE(edge(id));
  for (const pid_t pid : member_pids(id)) {
    ::kill(pid, SIGKILL);
  }
  const core::Ns heard = clock_.now();
  rusage used{};
  peer.wait(&used);
  ASSERT_TRUE(wait_until([&] { return levels(id).empty; }));
  const engine::ThresholdState state = levels(id).cpu;
  EXPECT_NE(state.over_since_ns, 0U);
  EXPECT_EQ(state.episodes, 1U);
  const core::Ns late = heard - state.over_since_ns;
  const core::Ns all = levels(id).cpu_ns;
  EXPECT_GE(all, kLimit);
  EXPECT_LE(all,
            kLimit + kLimit / 10 + 50 * kMs + late * static_cast<unsigned>(GetParam().threads));
}

INSTANTIATE_TEST_SUITE_P(
    Spinners, CpuLimit,
    testing::Values(Spinner{"OneThread", {"--seconds", "20"}, 1},
                    Spinner{"FourThreads", {"--threads", "4", "--seconds", "20"}, 2},
                    Spinner{"ThreeProcesses", {"--processes", "3", "--seconds", "20"}, 2}),
    [](const auto& row) { return row.param.name; });

// It is not switched out once: what a hook in sched_switch would know is nothing.
TEST_F(CpuTime, LimitOfASpinnerThatNeverLetsGo) {
  constexpr core::Ns kLimit = 100 * kMs;
  if (::sysconf(_SC_NPROCESSORS_ONLN) < 2) {
    GTEST_SKIP() << "needs a second CPU";
  }
  Peer peer([](Script& line) {
    pin_to_cpu(1);
    line.hear();
    const sched_param priority{1};
    if (::sched_setscheduler(0, SCHED_FIFO, &priority) != 0) {
      line.say(-2);
    }
    line.say(clock_ns(CLOCK_MONOTONIC));
    burn_cpu(milliseconds(400));
    line.say(clock_ns(CLOCK_MONOTONIC));
    line.hear();
  });
  const auto id = watch_process(peer.pid());
  limit_cpu(id, std::chrono::nanoseconds(kLimit));
  const auto begin = peer.ask();
  ASSERT_GT(begin, 0) << "no right to SCHED_FIFO";
  const auto end = static_cast<core::Ns>(peer.hear());
  EXPECT_TRUE(edge(id));
  const core::Ns over = levels(id).cpu.over_since_ns;
  ASSERT_NE(over, 0U);
  EXPECT_LT(over, end) << "seen while it was spinning";
  // Alone on its CPU, its CPU time is as good as the time of day.
  EXPECT_LE(over, static_cast<core::Ns>(begin) + kLimit + kLimit / 10 + 50 * kMs);
}

TEST_F(CpuTime, AlreadyOverWhenArmedIsACrossing) {
  Peer peer([](Script& line) {
    line.hear();
    burn_cpu(milliseconds(30));
    line.say();
    line.hear();
  });
  const auto id = watch_process(peer.pid());
  peer.ask();
  ASSERT_TRUE(at_rest({peer.pid()}));
  limit_cpu(id, milliseconds(10));
  EXPECT_NE(levels(id).cpu.over_since_ns, 0U);
  limit_cpu(id, milliseconds(1000));
  EXPECT_EQ(levels(id).cpu.over_since_ns, 0U);
}

TEST_F(CpuTime, SleeperNeverReachesItsLimit) {
  Peer peer([](Script& line) {
    line.hear();
    for (int i = 0; i < 100; ++i) {
      std::this_thread::sleep_for(milliseconds(2));
    }
    line.say();
    line.hear();
  });
  const auto id = watch_process(peer.pid());
  limit_cpu(id, milliseconds(100));
  peer.ask();
  EXPECT_EQ(levels(id).cpu.over_since_ns, 0U);
  EXPECT_LT(levels(id).cpu_ns, 100 * kMs);
  EXPECT_TRUE(source().drain().empty());
}

}  // namespace
}  // namespace procguard::test
