// SPDX-License-Identifier: Apache-2.0
// RSS by part equals what /proc says, to the page, whenever the process rests: whichever threads
// moved it, whatever the kernel keeps in per-CPU parts, and whoever of the threads has exited.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <barrier>
#include <csignal>
#include <string>
#include <thread>
#include <vector>

#include "sys/procfs.h"
#include "tests/bpf/watched.h"
#include "tests/support/temp_tree.h"

namespace procguard::test {
namespace {

class MemoryExact : public Watched {
 protected:
  void SetUp() override {
    Watched::SetUp();
    if (!IsSkipped() && !HasFatalFailure() && !source().exact_sums()) {
      GTEST_SKIP() << "this kernel tells BPF no exact sums";
    }
  }
};

char* map_shared(std::uint64_t bytes, int fd = -1) {
  const int flags = MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0);
  void* at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
  if (at == MAP_FAILED) {
    ::_exit(3);
  }
  return static_cast<char*>(at);
}

// Runs `work(0..threads-1)`, each in a thread of its own, 0 in the caller's.
void in_threads(int threads, const std::function<void(int)>& work) {
  std::vector<std::thread> others;
  for (int i = 1; i < threads; ++i) {
    others.emplace_back(work, i);
  }
  work(0);
  for (std::thread& other : others) {
    other.join();
  }
}

class MemoryExactByPart : public MemoryExact, public testing::WithParamInterface<int> {};

// Grows and shrinks in each part in turn, by one thread and by four.
TEST_P(MemoryExactByPart, EqualsProc) {
  const int threads = GetParam();
  const TempTree files;
  files.write("mapped", std::string(6 * kMiB, 'x'));
  Peer peer([&](Script& line) {
    constexpr std::uint64_t kShare = kMiB + 3 * kPage;  // of each thread: no multiple of a batch
    const std::uint64_t all = kShare * static_cast<std::uint64_t>(threads);
    const int fd = ::open(files.at("mapped").c_str(), O_RDWR);
    const std::array<char*, 3> areas = {map_pages(all), map_shared(all), map_shared(all, fd)};
    line.hear();
    line.say();
    for (char* area : areas) {
      line.hear();
      in_threads(threads, [&](int i) { touch(area + kShare * static_cast<unsigned>(i), kShare); });
      line.say();
    }
    for (char* area : areas) {
      line.hear();
      in_threads(threads, [&](int i) {
        ::madvise(area + kShare * static_cast<unsigned>(i), kShare / 2 / kPage * kPage,
                  MADV_DONTNEED);
      });
      line.say();
    }
    line.hear();
  });
  const auto id = watch_process(peer.pid());
  expect_exact(id, peer.pid(), "when the watch begins");
  peer.ask();
  expect_exact(id, peer.pid(), "before");
  const Rss before = rss_of(peer.pid());
  for (const char* when : {"anon grown", "shmem grown", "file grown"}) {
    peer.ask();
    expect_exact(id, peer.pid(), when);
  }
  const Rss after = rss_of(peer.pid());
  const std::uint64_t least = static_cast<std::uint64_t>(threads) * kMiB;
  EXPECT_GT(after.anon, before.anon + least) << "the test grew nothing";
  EXPECT_GT(after.shmem, before.shmem + least);
  EXPECT_GT(after.file, before.file + least);
  for (const char* when : {"anon shrunk", "shmem shrunk", "file shrunk"}) {
    peer.ask();
    expect_exact(id, peer.pid(), when);
  }
  EXPECT_LT(rss_of(peer.pid()).total, after.total - least);
}

INSTANTIATE_TEST_SUITE_P(Threads, MemoryExactByPart, testing::Values(1, 4),
                         [](const auto& row) { return std::to_string(row.param); });

// Threads on all CPUs move the same counters at the same moment, many times over; a sum that was
// read before another CPU's and written after it would stay.
TEST_F(MemoryExact, AfterThreadsRacedEachOther) {
  constexpr int kThreads = 4;
  constexpr int kRounds = 40;
  Peer peer([&](Script& line) {
    constexpr std::uint64_t kShare = 16 * kPage;
    char* area = map_pages(kThreads * kShare);
    std::barrier gate(kThreads);
    const auto churn = [&](int i) {
      for (int round = 0; round < kRounds; ++round) {
        if (i == 0) {
          line.hear();
        }
        gate.arrive_and_wait();
        for (int turn = 0; turn < 50; ++turn) {
          touch(area + kShare * static_cast<unsigned>(i), kShare);
          ::madvise(area + kShare * static_cast<unsigned>(i), kShare, MADV_DONTNEED);
        }
        touch(area + kShare * static_cast<unsigned>(i), kPage * static_cast<unsigned>(round % 16));
        gate.arrive_and_wait();
        if (i == 0) {
          line.say();
        }
      }
    };
    in_threads(kThreads, churn);
    line.hear();
  });
  const auto id = watch_process(peer.pid());
  for (int round = 0; round < kRounds && !HasFailure(); ++round) {
    peer.ask();
    expect_exact(id, peer.pid(), ("round " + std::to_string(round)).c_str());
  }
}

TEST_F(MemoryExact, PeaksStayWhenTheMemoryIsGivenBack) {
  constexpr std::uint64_t kSpike = 24 * kMiB;
  Peer peer([&](Script& line) {
    line.hear();
    char* area = map_pages(kSpike);
    touch(area, kSpike);
    line.say();
    line.hear();
    ::munmap(area, kSpike);
    line.say();
    line.hear();
  });
  const auto id = watch_tree(peer.pid());
  peer.ask();
  expect_exact(id, peer.pid(), "at the top");
  const std::uint64_t top = rss_of(peer.pid()).total;
  peer.ask();
  expect_exact(id, peer.pid(), "after it");
  EXPECT_LT(levels(id).memory_bytes, top - kSpike + kMiB);
  constexpr std::uint64_t kOther = 16 * kPage;  // what the peer touched besides at the top
  for (const std::uint64_t peak :
       {levels(id).memory_peak_bytes, levels(id).memory_plain_peak_bytes,
        static_cast<std::uint64_t>(process(peer.pid()).rss_peak_bytes)}) {
    EXPECT_GE(peak, top);
    EXPECT_LE(peak, top + kOther);
  }
}

// The owner of the address space is another thread then, with a pid of its own.
TEST_F(MemoryExact, LeaderExitsFirst) {
  Peer peer([](Script& line) {
    std::thread other([&line] {
      line.hear();
      line.say(::gettid());
      line.hear();
      touch(map_pages(8 * kMiB), 8 * kMiB);
      line.say();
      line.hear();
      ::_exit(0);
    });
    end_thread();
  });
  const auto id = watch_tree(peer.pid());
  const auto tid = static_cast<pid_t>(peer.ask());
  ASSERT_TRUE(wait_until([&] { return process_state(peer.pid()) == 'Z'; }));
  const std::uint64_t before = rss_of(peer.pid(), tid).total;
  expect_exact(id, peer.pid(), "the leader has exited", tid);
  peer.ask();
  expect_exact(id, peer.pid(), "and another thread grew", tid);
  EXPECT_GE(levels(id).memory_bytes, before + 8 * kMiB);
  EXPECT_EQ(process(peer.pid()).threads, 1U);
  EXPECT_EQ(levels(id).processes, 1U);
  EXPECT_FALSE(levels(id).empty);
  peer.hang_up();
  EXPECT_TRUE(wait_until([&] { return levels(id).empty; })) << "the last thread has ended";
  EXPECT_EQ(levels(id).memory_bytes, 0U);
}

TEST_F(MemoryExact, WatchBeginsAfterTheLeaderHasExited) {
  Peer peer([](Script& line) {
    std::thread other([&line] {
      line.say(::gettid());
      line.hear();
      ::_exit(0);
    });
    end_thread();
  });
  const auto tid = static_cast<pid_t>(peer.hear());
  ASSERT_TRUE(wait_until([&] { return process_state(peer.pid()) == 'Z'; }));
  const auto id = watch_tree(peer.pid());
  expect_exact(id, peer.pid(), "when the watch begins", tid);
  EXPECT_EQ(process(peer.pid()).threads, 1U);
  EXPECT_FALSE(thread(peer.pid()).has_value()) << "the dead leader has no entry";
  EXPECT_TRUE(thread(tid).has_value());
}

TEST_F(MemoryExact, ZombiesDoNotCount) {
  Peer peer([](Script& line) {
    line.hear();
    const pid_t child = fork_child([&line] {
      touch(map_pages(8 * kMiB), 8 * kMiB);
      line.say();
      ::pause();
    });
    line.hear();
    ::kill(child, SIGKILL);
    line.say(child);  // and does not wait for it
    line.hear();
  });
  const auto id = watch_tree(peer.pid());
  peer.ask();
  EXPECT_EQ(levels(id).processes, 2U);
  EXPECT_GE(levels(id).memory_bytes, rss_of(peer.pid()).total + 8 * kMiB);
  const auto child = static_cast<pid_t>(peer.ask());
  ASSERT_TRUE(wait_until([&] { return process_state(child) == 'Z'; }));
  expect_exact(id, peer.pid(), "with a zombie child");
  EXPECT_EQ(levels(id).processes, 1U);
  EXPECT_EQ(member_pids(id), std::vector<pid_t>{peer.pid()});
}

// What is dead when the watch begins would never leave it.
TEST_F(MemoryExact, ZombiesAreNotEnrolled) {
  Peer peer([](Script& line) {
    const pid_t child = fork_child([] {});
    std::thread([] {}).join();
    line.say(child);
    line.hear();
  });
  const auto child = static_cast<pid_t>(peer.hear());
  ASSERT_TRUE(wait_until([&] { return process_state(child) == 'Z'; }));
  const auto id = watch_tree(peer.pid());
  EXPECT_EQ(levels(id).processes, 1U);
  EXPECT_EQ(member_pids(id), std::vector<pid_t>{peer.pid()});
  EXPECT_FALSE(programs().process(static_cast<std::uint32_t>(child)).has_value());
  EXPECT_FALSE(thread(child).has_value());
  EXPECT_FALSE(source().watch(target(PG_SCOPE_PROCESS, child)).ok())
      << "a zombie cannot be watched";
}

}  // namespace
}  // namespace procguard::test
