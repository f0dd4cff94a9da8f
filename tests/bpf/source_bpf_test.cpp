// SPDX-License-Identifier: Apache-2.0
// The bpf source as an engine::Source: what it answers, what it keeps, what it refuses.
#include <bpf/bpf.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "sys/procfs.h"
#include "tests/bpf/watched.h"

namespace procguard::test {
namespace {

class SourceBpf : public Watched {
 protected:
  // The descriptor of a map that this process has open, by its name.
  static int map_named(const std::string& name) {
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
      const int fd = std::stoi(entry.path().filename());
      bpf_map_info info{};
      __u32 size = sizeof(info);
      std::error_code none;
      if (std::filesystem::read_symlink(entry.path(), none) == "anon_inode:bpf-map" &&
          bpf_obj_get_info_by_fd(fd, &info, &size) == 0 && name == info.name) {
        return fd;
      }
    }
    ADD_FAILURE() << "no map " << name;
    return -1;
  }
};

TEST_F(SourceBpf, SaysWhatItIs) {
  EXPECT_STREQ(source().name(), "bpf");
  EXPECT_STREQ(source().membership(), "bpf");
  EXPECT_EQ(source().next_check(clock_.now()), core::kNever) << "it polls nothing";
  EXPECT_GE(source().event_fd(), 0);
}

TEST_F(SourceBpf, KnowsItsOwnWatchesOnly) {
  Peer peer([](Script& line) { line.hear(); });
  const auto id = watch_tree(peer.pid());
  const engine::WatchId wrong[] = {0, id + 1, id + (1ULL << 32U), 0xffffffffULL, ~0ULL};
  for (const auto unknown : wrong) {
    EXPECT_EQ(source().levels(unknown).error().code(), ENOENT);
    EXPECT_EQ(source().members(unknown).error().code(), ENOENT);
    EXPECT_EQ(source().usage(unknown).error().code(), ENOENT);
    EXPECT_EQ(source().set_thresholds(unknown, {}).error().code(), ENOENT);
    EXPECT_EQ(source().open_member(unknown, {peer.pid(), 0, {}}).error().code(), ENOENT);
    source().take_over(unknown);
    source().doom(unknown);
    source().release(unknown);
  }
  EXPECT_EQ(levels(id).processes, 1U) << "the right one goes on";
  EXPECT_EQ(peer.pid(), member_pids(id).front());
}

TEST_F(SourceBpf, IsQuietWhenNothingHappens) {
  Peer peer([](Script& line) { line.hear(); });
  const auto id = watch_tree(peer.pid());
  limit_memory(id, 1024 * kMiB);
  pollfd ring{source().event_fd(), POLLIN, 0};
  EXPECT_EQ(::poll(&ring, 1, 0), 0);
  EXPECT_TRUE(source().drain().empty());
}

TEST_F(SourceBpf, ReleasedIsNotReady) {
  Peer peer([](Script& line) {
    line.hear();
    touch(map_pages(4 * kMiB), 4 * kMiB);
    line.say();
    line.hear();
  });
  const auto id = watch_tree(peer.pid());
  const auto other = watch_process(peer.pid());
  limit_memory(id, levels(id).memory_bytes + kMiB);
  limit_memory(other, levels(other).memory_bytes + kMiB);
  peer.ask();
  source().release(id);
  EXPECT_EQ(source().drain(), std::vector<engine::WatchId>{other});
}

// A slot is used again; what the ring still holds about the old watch is not about the new one.
TEST_F(SourceBpf, ASlotUsedAgainIsAnotherWatch) {
  kernel::LoadOptions one;
  one.watches = 1;
  load(one);
  Peer peer([](Script& line) {
    line.hear();
    touch(map_pages(4 * kMiB), 4 * kMiB);
    line.say();
    line.hear();
  });
  const auto first = watch_tree(peer.pid());
  limit_memory(first, levels(first).memory_bytes + kMiB);
  peer.ask();
  source().release(first);
  const auto second = watch_tree(peer.pid());
  EXPECT_NE(first, second);
  EXPECT_EQ(static_cast<std::uint32_t>(first), static_cast<std::uint32_t>(second));
  EXPECT_TRUE(source().drain().empty());
  const engine::Levels now = levels(second);
  EXPECT_EQ(now.memory[0].episodes, 0U);
  EXPECT_EQ(now.cpu_ns, 0U);
  EXPECT_EQ(now.processes, 1U);
  expect_exact(second, peer.pid(), "the second watch");
}

// The guards people look at with `bpftool map dump`.
TEST_F(SourceBpf, PublishesArmedGuards) {
  const int map = map_named("guards");
  const auto published = [map](std::uint64_t id) -> std::optional<pg_guard> {
    pg_guard guard{};
    if (bpf_map_lookup_elem(map, &id, &guard) != 0) {
      return std::nullopt;
    }
    return guard;
  };
  pg_guard guard{};
  guard.abi = PG_ABI;
  guard.size = sizeof(guard);
  guard.id = 41;
  guard.phase = PG_GUARD_ARMED;
  guard.pid = 1234;
  EXPECT_FALSE(published(41));
  source().publish(guard);
  ASSERT_TRUE(published(41));
  EXPECT_EQ(published(41)->pid, 1234U);
  guard.phase = PG_GUARD_RELEASED;
  source().publish(guard);
  EXPECT_FALSE(published(41));
}

// Nobody knows whose the lost record was.
TEST_F(SourceBpf, AfterALossAllWatchesAreReady) {
  losses_are_expected();
  Peer peer([](Script& line) { line.hear(); });
  const auto one = watch_tree(peer.pid());
  const auto other = watch_process(peer.pid());
  ASSERT_TRUE(source().drain().empty());
  pg_losses losses{};
  losses.edges = 1;
  const __u32 zero = 0;
  ASSERT_EQ(bpf_map_update_elem(map_named("losses"), &zero, &losses, BPF_ANY), 0);
  EXPECT_EQ(source().drain(), (std::vector<engine::WatchId>{one, other}));
  EXPECT_TRUE(source().drain().empty()) << "once a loss";
}

TEST_F(SourceBpf, KernelThreadsAreNobodys) {
  const sys::ProcRoot proc;
  const auto pids = proc.processes();
  ASSERT_TRUE(pids);
  const auto kernel_thread = std::find_if(pids->begin(), pids->end(), [&](pid_t pid) {
    const auto stat = proc.stat(pid);
    return stat && stat->kernel_thread();
  });
  ASSERT_NE(kernel_thread, pids->end());
  const auto watched = source().watch(target(PG_SCOPE_PROCESS, *kernel_thread));
  ASSERT_FALSE(watched);
  EXPECT_EQ(watched.error().code(), ESRCH);
}

TEST_F(SourceBpf, RefusesAMemoryLimitItCannotKeep) {
  kernel::LoadOptions no_memory;
  no_memory.memory = false;
  load(no_memory, false);
  Peer peer([](Script& line) { line.hear(); });
  const auto id = watch_tree(peer.pid());
  engine::Thresholds thresholds;
  thresholds.memory[0].bytes = kMiB;
  EXPECT_FALSE(source().set_thresholds(id, thresholds).ok());
  limit_cpu(id, std::chrono::seconds(1));
}

TEST_F(SourceBpf, TotalsAreThoseOfLiveAndEnded) {
  Peer peer([](Script& line) {
    line.hear();
    for (int i = 0; i < 3; ++i) {
      fork_child([] { burn_cpu(std::chrono::milliseconds(15)); });
    }
    line.say();
    line.hear();
    burn_cpu(std::chrono::milliseconds(15));
    line.say();
    line.hear();
  });
  const auto id = watch_tree(peer.pid());
  peer.ask();
  EXPECT_TRUE(wait_until([&] { return levels(id).processes == 1; }));
  peer.ask();
  ASSERT_TRUE(at_rest({peer.pid()}));
  const auto usage = source().usage(id);
  EXPECT_GE(usage->total.cpu_ns, 60 * core::kMillisecond);
  EXPECT_EQ(usage->total.cpu_ns, levels(id).cpu_ns);
  ASSERT_FALSE(usage->threads.empty());
  EXPECT_EQ(usage->threads[0].pid, peer.pid());
  EXPECT_GE(usage->threads[0].usage.cpu_ns, 15 * core::kMillisecond);
  EXPECT_LT(usage->threads[0].usage.cpu_ns, 55 * core::kMillisecond);
}

}  // namespace
}  // namespace procguard::test
