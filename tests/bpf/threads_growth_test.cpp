// SPDX-License-Identifier: Apache-2.0
// Which thread moved the RSS, and in which part; and what others moved from outside.
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "sys/fd.h"
#include "tests/bpf/watched.h"

namespace procguard::test {
namespace {

// Stack, thread control block, page of the C library: what a thread touches besides.
constexpr std::uint64_t kBeside = 256 * kKiB;

class ThreadsGrowth : public Watched {
 protected:
  pg_usage usage_of(engine::WatchId id, pid_t tid) {
    const auto usage = source().usage(id);
    for (const engine::ThreadUsage& thread : usage->threads) {
      if (thread.tid == tid && thread.state != 'X') {
        return thread.usage;
      }
    }
    ADD_FAILURE() << "no usage of thread " << tid;
    return {};
  }
  static std::int64_t net(const pg_usage& usage) {
    std::int64_t sum = 0;
    for (int part = 0; part < PG_RSS_PARTS; ++part) {
      sum += static_cast<std::int64_t>(usage.grown_bytes[part]) -
             static_cast<std::int64_t>(usage.shrunk_bytes[part]);
    }
    return sum;
  }
};

// Threads that fault at the same moment may get a page of each other's: a sum has both.
void expect_about(std::uint64_t actual, std::uint64_t expected, const std::string& what) {
  EXPECT_GE(actual, expected - expected / 16) << what;
  EXPECT_LE(actual, expected + expected / 16 + kBeside) << what;
}

TEST_F(ThreadsGrowth, EachThreadsOwnByPart) {
  // What thread i grows by, and then shrinks by half of.
  const std::vector<std::pair<pg_rss_part, std::uint64_t>> growths = {
      {PG_RSS_ANON, 3 * kMiB}, {PG_RSS_ANON, 7 * kMiB}, {PG_RSS_SHMEM, 5 * kMiB}};
  Peer peer([&](Script& line) {
    SharedInts stage(1);
    std::vector<std::thread> threads;
    for (const auto& [part, bytes] : growths) {
      threads.emplace_back([&, part = part, bytes = bytes] {
        const int flags = MAP_ANONYMOUS | (part == PG_RSS_SHMEM ? MAP_SHARED : MAP_PRIVATE);
        auto* area =
            static_cast<char*>(::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, -1, 0));
        ::madvise(area, bytes, MADV_NOHUGEPAGE);
        line.say(::gettid());
        wait_while(stage[0], 0);
        touch(area, bytes);
        line.say();
        wait_while(stage[0], 1);
        ::madvise(area, bytes / 2, MADV_DONTNEED);
        line.say();
        ::pause();
      });
      line.hear();
    }
    for (;;) {
      ++stage[0];
      wake_all(stage[0]);
      line.hear();
    }
  });
  const auto id = watch_process(peer.pid());
  std::vector<pid_t> tids;
  for (std::size_t i = 0; i < growths.size(); ++i) {
    tids.push_back(static_cast<pid_t>(peer.hear()));
    peer.tell();
  }
  for (std::size_t i = 0; i < growths.size(); ++i) {
    peer.hear();
  }
  ASSERT_TRUE(at_rest({peer.pid()}));
  std::vector<pg_usage> grown;
  for (std::size_t i = 0; i < growths.size(); ++i) {
    const auto [part, bytes] = growths[i];
    grown.push_back(usage_of(id, tids[i]));
    expect_about(grown[i].grown_bytes[part], bytes, "thread " + std::to_string(i));
    const pg_rss_part other = part == PG_RSS_ANON ? PG_RSS_SHMEM : PG_RSS_ANON;
    EXPECT_LE(grown[i].grown_bytes[other], kBeside) << "thread " << i;
  }
  peer.tell();
  for (std::size_t i = 0; i < growths.size(); ++i) {
    peer.hear();
  }
  ASSERT_TRUE(at_rest({peer.pid()}));
  for (std::size_t i = 0; i < growths.size(); ++i) {
    const auto [part, bytes] = growths[i];
    const pg_usage now = usage_of(id, tids[i]);
    expect_about(now.shrunk_bytes[part] - grown[i].shrunk_bytes[part], bytes / 2,
                 "thread " + std::to_string(i));
    EXPECT_LE(now.grown_bytes[part] - grown[i].grown_bytes[part], kBeside) << "thread " << i;
  }
}

// Not a page gets lost between the threads, the ended ones and the outside.
TEST_F(ThreadsGrowth, AllChangesAreSomebodys) {
  Peer peer([](Script& line) {
    const auto churn = [] {
      char* area = map_pages(kMiB);
      for (int i = 0; i < 30; ++i) {
        touch(area, kMiB);
        ::madvise(area, kMiB, MADV_DONTNEED);
      }
      touch(area, kMiB / 2);
    };
    line.hear();
    for (int round = 0; round < 4; ++round) {
      std::vector<std::thread> threads;
      for (int i = 0; i < 4; ++i) {
        threads.emplace_back(churn);
      }
      for (auto& thread : threads) {
        thread.join();
      }
    }
    line.say();
    line.hear();
  });
  const auto id = watch_process(peer.pid());
  ASSERT_TRUE(at_rest({peer.pid()}));
  limit_memory(id, 64 * kMiB);
  // What it faults in while it is being enrolled may be nobody's thread's yet: counted as remote.
  const auto attributed = [&] {
    const pg_process entry = process(peer.pid());
    return net(source().usage(id)->total) + static_cast<std::int64_t>(entry.remote_grown_bytes) -
           static_cast<std::int64_t>(entry.remote_shrunk_bytes);
  };
  const auto before = static_cast<std::int64_t>(levels(id).memory_bytes);
  const std::int64_t attributed_before = attributed();
  peer.ask();
  expect_exact(id, peer.pid(), "at rest");
  const auto after = static_cast<std::int64_t>(levels(id).memory_bytes);
  EXPECT_EQ(after - before, attributed() - attributed_before);
  EXPECT_GE(source().usage(id)->total.grown_bytes[PG_RSS_ANON], 4 * 4 * 30 * kMiB);
}

TEST_F(ThreadsGrowth, LargestEndedThreadIsKept) {
  Peer peer([](Script& line) {
    line.hear();
    for (const std::uint64_t mib : {2, 9, 4}) {
      std::thread([mib] {
        ::prctl(PR_SET_NAME, mib == 9 ? "grower" : "other");
        touch(map_pages(mib * kMiB), mib * kMiB);
      }).join();
    }
    line.say();
    line.hear();
  });
  const auto id = watch_tree(peer.pid());
  peer.ask();
  const auto usage = source().usage(id);
  ASSERT_TRUE(usage.ok());
  const engine::ThreadUsage* largest = nullptr;
  for (const engine::ThreadUsage& thread : usage->threads) {
    largest = thread.state == 'X' ? &thread : largest;
  }
  ASSERT_NE(largest, nullptr);
  EXPECT_EQ(largest->comm, "grower");
  EXPECT_EQ(largest->pid, peer.pid());
  expect_about(largest->usage.grown_bytes[PG_RSS_ANON], 9 * kMiB, "the largest of three");
}

// ---- from outside -------------------------------------------------------------------------------

TEST_F(ThreadsGrowth, AnotherProcessWritesToFreshPages) {
  constexpr std::uint64_t kBytes = 4 * kMiB;
  Peer peer([](Script& line) {
    line.say(static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(map_pages(kBytes))));
    line.hear();
  });
  const auto area = static_cast<std::uint64_t>(peer.hear());
  const auto id = watch_process(peer.pid());
  ASSERT_TRUE(at_rest({peer.pid()}));
  const pg_usage before = usage_of(id, peer.pid());
  const std::string bytes(kBytes, 'x');
  const iovec from{const_cast<char*>(bytes.data()), bytes.size()};
  const iovec to{reinterpret_cast<void*>(area), bytes.size()};
  ASSERT_EQ(::process_vm_writev(peer.pid(), &from, 1, &to, 1, 0), static_cast<ssize_t>(kBytes));
  expect_exact(id, peer.pid(), "written to");
  EXPECT_EQ(process(peer.pid()).remote_grown_bytes, kBytes);
  EXPECT_EQ(usage_of(id, peer.pid()).grown_bytes[PG_RSS_ANON], before.grown_bytes[PG_RSS_ANON]);
}

TEST_F(ThreadsGrowth, AnotherProcessTakesPagesAway) {
  constexpr std::uint64_t kBytes = 4 * kMiB;
  sys::Fd file(static_cast<int>(::memfd_create("shared", MFD_CLOEXEC)));
  ASSERT_EQ(::ftruncate(file.get(), kBytes), 0);
  void* area = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  ASSERT_NE(area, MAP_FAILED);
  Peer peer([area](Script& line) {
    touch(static_cast<char*>(area), kBytes);
    line.say();
    line.hear();
  });
  peer.hear();
  ::munmap(area, kBytes);
  const auto id = watch_process(peer.pid());
  ASSERT_TRUE(at_rest({peer.pid()}));
  const std::uint64_t before = levels(id).memory_bytes;
  limit_memory(id, before - kMiB);
  EXPECT_NE(levels(id).memory[0].over_since_ns, 0U);
  ASSERT_EQ(::ftruncate(file.get(), 0), 0);
  expect_exact(id, peer.pid(), "taken away");
  EXPECT_EQ(levels(id).memory_bytes, before - kBytes);
  EXPECT_EQ(process(peer.pid()).remote_shrunk_bytes, kBytes);
  EXPECT_EQ(levels(id).memory[0].over_since_ns, 0U) << "a crossing all the same";
}

}  // namespace
}  // namespace procguard::test
