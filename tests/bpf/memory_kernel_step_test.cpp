// SPDX-License-Identifier: Apache-2.0
// The kernel's own first step: the signal goes out at the crossing itself, to each member that runs
// while the level is over, once an episode, until user space takes the episode over; and only where
// kill(2) would have let the watch's owner.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "tests/bpf/watched.h"
#include "tests/support/subprocess.h"

namespace procguard::test {
namespace {

constexpr std::uint64_t kStrip = 16 * kMiB;

class MemoryKernelStep : public Watched {};

// ---- overshoot ----------------------------------------------------------------------------------

struct Growth {
  std::string name;
  int threads;
  bool shmem;
};
void PrintTo(const Growth& row, std::ostream* os) {
  *os << row.name;
}

class KernelStepOvershoot : public Watched, public testing::WithParamInterface<Growth> {};

TEST_P(KernelStepOvershoot, IsAPageAThread) {
  const auto threads = static_cast<std::uint64_t>(GetParam().threads);
  std::vector<std::string> command = {program("touch"), "512M", "--threads",
                                      std::to_string(threads)};
  if (GetParam().shmem) {
    command.emplace_back("--shmem");
  }
  Peer peer = Peer::program(command);
  const auto id = watch_tree(peer.pid());
  ASSERT_TRUE(at_rest({peer.pid()}));
  // Above what the test binary itself has, which it is before it becomes the program.
  const std::uint64_t limit = rss_of(peer.pid()).total + 64 * kMiB;
  limit_memory(id, limit, SIGKILL);
  peer.tell();
  const int status = peer.wait();
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;
  EXPECT_GT(levels(id).memory_peak_bytes, limit);
  EXPECT_LE(levels(id).memory_peak_bytes, limit + 64 * kKiB + threads * kPage);
  EXPECT_EQ(levels(id).memory[0].episodes, 1U);
  EXPECT_NE(levels(id).memory[0].kernel_acted_ns, 0U);
  RecordProperty("overshoot_kib", std::to_string((levels(id).memory_peak_bytes - limit) / kKiB));
}

INSTANTIATE_TEST_SUITE_P(Growth, KernelStepOvershoot,
                         testing::Values(Growth{"Anon1Thread", 1, false},
                                         Growth{"Anon4Threads", 4, false},
                                         Growth{"Shmem1Thread", 1, true},
                                         Growth{"Shmem4Threads", 4, true}),
                         [](const auto& row) { return row.param.name; });

// ---- who gets it, and how often -----------------------------------------------------------------

std::atomic<int>* signals_seen;  // of the script's process

// A child that counts SIGUSR1s it gets. Told a number it touches (or gives back) so many pages of
// its strip, as in memory_threshold_test.
void run_strip(Script& line, std::atomic<int>* seen) {
  signals_seen = seen;
  ::signal(SIGUSR1, [](int) { ++*signals_seen; });
  char* strip = map_pages(kStrip);
  std::uint64_t touched = 0;
  touch(strip, kStrip);
  ::madvise(strip, kStrip, MADV_DONTNEED);
  line.say();
  for (;;) {
    const std::int64_t pages = line.hear();
    const std::uint64_t bytes = static_cast<std::uint64_t>(std::abs(pages)) * kPage;
    touched -= pages < 0 ? bytes : 0;
    if (pages > 0) {
      touch(strip + touched, bytes);
    } else {
      ::madvise(strip + touched, bytes, MADV_DONTNEED);
    }
    touched += pages > 0 ? bytes : 0;
    line.say();
  }
}

// Two of them, in one cgroup.
class KernelStepToMembers : public Watched {
 protected:
  struct Member {
    SharedInts numbers{1};
    std::atomic<int>* seen = &numbers[0];
    Peer peer;
    explicit Member(uid_t uid)
        : peer([this, uid](Script& line) {
            if (uid != 0 && ::setresuid(uid, uid, uid) != 0) {
              ::_exit(3);
            }
            line.say();
            run_strip(line, seen);
          }) {
      peer.hear();
      EXPECT_TRUE(at_rest({peer.pid()}));
    }
    Member(const Member&) = delete;
    Member& operator=(const Member&) = delete;
    void move(std::int64_t pages) {
      peer.ask(pages);
      ASSERT_TRUE(at_rest({peer.pid()}));
    }
  };

  void start(uid_t uid = 0) {
    one_.emplace(uid);
    other_.emplace(uid);
    cgroup_.emplace();
    cgroup_->add(one_->peer.pid());
    cgroup_->add(other_->peer.pid());
  }
  void arm() {
    id_ = watch_cgroup(*cgroup_);
    limit_memory(id_, levels(id_).memory_bytes + 4 * kMiB, SIGUSR1);
  }
  void TearDown() override {
    one_.reset();
    other_.reset();
    Watched::TearDown();
    cgroup_.reset();
  }
  bool told(pid_t pid) {
    const auto members = source().members(id_);
    for (const engine::Member& member : members.value()) {
      if (member.pid == pid) {
        return member.kernel_signalled[0];
      }
    }
    ADD_FAILURE() << pid << " is no member";
    return false;
  }

  std::optional<Member> one_;
  std::optional<Member> other_;
  std::optional<TestCgroup> cgroup_;
  engine::WatchId id_ = 0;
};

TEST_F(KernelStepToMembers, OnceAMemberAndEpisode) {
  start();
  arm();
  one_->move(512);
  EXPECT_EQ(*one_->seen, 0);
  const core::Ns before = clock_.now();
  one_->move(1024);
  EXPECT_EQ(*one_->seen, 1);
  EXPECT_EQ(levels(id_).memory[0].kernel_acted_pid, static_cast<__u32>(one_->peer.pid()));
  EXPECT_GE(levels(id_).memory[0].kernel_acted_ns, before);
  EXPECT_LE(levels(id_).memory[0].kernel_acted_ns, clock_.now());
  EXPECT_TRUE(told(one_->peer.pid()));
  EXPECT_FALSE(told(other_->peer.pid()));
  one_->move(256);
  EXPECT_EQ(*one_->seen, 1) << "it has had its signal";
  other_->move(1);
  EXPECT_EQ(*other_->seen, 1) << "the other ran while the level was over";
  EXPECT_TRUE(told(other_->peer.pid()));
  EXPECT_EQ(levels(id_).memory[0].episodes, 1U);

  one_->move(-1792);
  EXPECT_EQ(levels(id_).memory[0].over_since_ns, 0U);
  EXPECT_FALSE(told(one_->peer.pid()) && levels(id_).memory[0].episodes == 2);
  one_->move(1792);
  EXPECT_EQ(*one_->seen, 2) << "the next episode";
  EXPECT_EQ(*other_->seen, 1);
  EXPECT_EQ(levels(id_).memory[0].episodes, 2U);
}

TEST_F(KernelStepToMembers, ClosedWhenUserSpaceTakesOver) {
  start();
  arm();
  one_->move(1280);
  EXPECT_EQ(*one_->seen, 1);
  source().take_over(id_);
  other_->move(64);
  EXPECT_EQ(*other_->seen, 0) << "user space signals from here on";
  one_->move(-1280);
  one_->move(1280);
  EXPECT_EQ(*one_->seen, 2) << "the next episode is the kernel's again";
}

TEST_F(KernelStepToMembers, NoneWhereNoSignalIsWanted) {
  start();
  arm();
  limit_memory(id_, levels(id_).memory_bytes + 4 * kMiB, 0);
  one_->move(1280);
  EXPECT_NE(levels(id_).memory[0].over_since_ns, 0U);
  EXPECT_EQ(*one_->seen, 0);
  EXPECT_EQ(levels(id_).memory[0].kernel_acted_ns, 0U);
}

TEST_F(KernelStepToMembers, ArmedWhenOverSignalsAtTheNextChange) {
  start();
  id_ = watch_cgroup(*cgroup_);
  one_->move(1280);
  limit_memory(id_, levels(id_).memory_bytes - kMiB, SIGUSR1);
  EXPECT_EQ(levels(id_).memory[0].episodes, 1U);
  one_->move(1);
  EXPECT_EQ(*one_->seen, 1);
}

// ---- whose processes ----------------------------------------------------------------------------

constexpr uid_t kOwner = 61001;
constexpr uid_t kStranger = 61002;

struct Authority {
  std::string name;
  uid_t owner;
  bool any_uid;
  uid_t target;
  bool signalled;
};
void PrintTo(const Authority& row, std::ostream* os) {
  *os << row.name;
}

class KernelStepAuthority : public KernelStepToMembers,
                            public testing::WithParamInterface<Authority> {};

TEST_P(KernelStepAuthority, FollowsKill2) {
  const Authority& row = GetParam();
  if (!row.signalled) {
    losses_are_expected();
  }
  start(row.target);
  engine::Target cgroup = target(PG_SCOPE_CGROUP, 0);
  cgroup.cgroup_path = cgroup_->path();
  cgroup.cgroup_id = cgroup_->id();
  cgroup.owner_uid = row.owner;
  cgroup.any_uid = row.any_uid;
  id_ = watch(cgroup);
  limit_memory(id_, levels(id_).memory_bytes + 4 * kMiB, SIGUSR1);
  one_->move(1280);
  EXPECT_NE(levels(id_).memory[0].over_since_ns, 0U);
  EXPECT_EQ(*one_->seen, row.signalled ? 1 : 0);
  EXPECT_EQ(programs().losses().signals != 0, !row.signalled);
  one_->move(64);
  EXPECT_EQ(*one_->seen, row.signalled ? 1 : 0);
}

INSTANTIATE_TEST_SUITE_P(Rows, KernelStepAuthority,
                         testing::Values(Authority{"OwnProcess", kOwner, false, kOwner, true},
                                         Authority{"Strangers", kOwner, false, kStranger, false},
                                         Authority{"Roots", kOwner, false, 0, false},
                                         Authority{"AnyUid", kOwner, true, kStranger, true},
                                         Authority{"RootWithoutCapKill", 0, false, kStranger,
                                                   false}),
                         [](const auto& row) { return row.param.name; });

}  // namespace
}  // namespace procguard::test
