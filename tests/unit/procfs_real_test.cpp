// SPDX-License-Identifier: Apache-2.0
// The procfs source on real processes.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <thread>

#include "engine/procfs_source.h"
#include "sys/monotonic_clock.h"
#include "sys/pidfd.h"
#include "sys/procfs.h"
#include "tests/support/child.h"
#include "tests/support/processes.h"
#include "tests/support/test_cgroup.h"

namespace procguard::engine {
namespace {

using core::kMillisecond;
using test::Child;
using test::pause_forever;
using test::wait_until;

constexpr std::uint64_t kMiB = 1 << 20;

// Touches anonymous memory, page by page, and keeps it.
void touch(std::size_t bytes) {
  auto* memory = static_cast<char*>(
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  for (std::size_t i = 0; memory != MAP_FAILED && i < bytes; i += 4096) {
    memory[i] = 1;
  }
}

void burn(core::Ns cpu) {
  timespec used{};
  do {
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
  } while (static_cast<core::Ns>(used.tv_sec) * core::kSecond +
               static_cast<core::Ns>(used.tv_nsec) <
           cpu);
}

// One step at a time between a test and its child.
class Gate {
 public:
  Gate() { EXPECT_EQ(::pipe2(ends_, O_CLOEXEC), 0); }
  ~Gate() {
    ::close(ends_[0]);
    ::close(ends_[1]);
  }
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;
  void open() const { EXPECT_EQ(::write(ends_[1], "x", 1), 1); }
  void wait() const {
    char byte = 0;
    (void)!::read(ends_[0], &byte, 1);
  }

 private:
  int ends_[2] = {-1, -1};
};

// Makes this process the reaper of orphans for the time of a test, and ends what came.
class Subreaper {
 public:
  Subreaper() { ::prctl(PR_SET_CHILD_SUBREAPER, 1); }
  ~Subreaper() { ::prctl(PR_SET_CHILD_SUBREAPER, 0); }
  Subreaper(const Subreaper&) = delete;
  Subreaper& operator=(const Subreaper&) = delete;
};

class ProcfsReal : public ::testing::Test {
 protected:
  void SetUp() override {
    auto made = ProcfsSource::create(clock_, default_procfs_options());
    ASSERT_TRUE(made);
    source_ = std::move(made).value();
  }
  WatchId watch(pg_scope scope, pid_t pid) {
    const auto id = source_->watch({.scope = scope, .pid = pid, .cgroup_path = ""});
    EXPECT_TRUE(id) << id.error().message();
    return id ? id.value() : 0;
  }
  Levels levels(WatchId id) {
    const auto read = source_->levels(id);
    EXPECT_TRUE(read) << read.error().message();
    return read ? read.value() : Levels{};
  }
  // As a host's loop does it.
  bool drain_until(const std::function<bool()>& condition) {
    return wait_until([&] {
      const core::Ns now = clock_.now();
      const core::Ns next = source_->next_check(now);
      pollfd entry{.fd = source_->event_fd(), .events = POLLIN, .revents = 0};
      const int ms = next <= now ? 0 : static_cast<int>(std::min<core::Ns>(next - now, 1e9) / 1e6);
      ::poll(&entry, 1, ms);
      source_->drain();
      return condition();
    });
  }

  sys::MonotonicClock clock_;
  std::unique_ptr<ProcfsSource> source_;
};

TEST_F(ProcfsReal, MemoryCrossesAndComesBack) {
  const Gate grow;
  const Gate shrink;
  Child child([&] {
    grow.wait();
    void* memory = ::mmap(nullptr, 64 * kMiB, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    shrink.wait();
    ::munmap(memory, 64 * kMiB);
    pause_forever();
  });
  const WatchId id = watch(PG_SCOPE_PROCESS, child.pid());
  Thresholds thresholds;
  thresholds.memory[0].bytes = levels(id).memory_bytes + 32 * kMiB;
  ASSERT_TRUE(source_->set_thresholds(id, thresholds));
  EXPECT_EQ(levels(id).memory[0].over_since_ns, 0U);
  const core::Ns before = clock_.now();
  grow.open();
  ASSERT_TRUE(drain_until([&] { return levels(id).memory[0].over_since_ns != 0; }));
  EXPECT_GE(levels(id).memory[0].over_since_ns, before);
  shrink.open();
  ASSERT_TRUE(drain_until([&] { return levels(id).memory[0].over_since_ns == 0; }));
  EXPECT_EQ(levels(id).memory[0].episodes, 1U);
  EXPECT_GE(levels(id).memory_peak_bytes, thresholds.memory[0].bytes + 30 * kMiB);
}

TEST_F(ProcfsReal, CpuOfThreadsThatHaveEndedToo) {
  constexpr core::Ns kEach = 60 * kMillisecond;
  const Gate go;
  Child child([&] {
    go.wait();
    for (int i = 0; i < 3; ++i) {
      std::thread([] { burn(kEach); }).join();
    }
    burn(kEach);
    pause_forever();
  });
  const WatchId id = watch(PG_SCOPE_PROCESS, child.pid());
  Thresholds thresholds;
  thresholds.cpu_ns = 3 * kEach;
  ASSERT_TRUE(source_->set_thresholds(id, thresholds));
  go.open();
  ASSERT_TRUE(drain_until([&] { return levels(id).cpu.over_since_ns != 0; }));
  // Ticks are rounded down, twice; nothing is ever counted that was not used.
  ASSERT_TRUE(wait_until([&] { return levels(id).cpu_ns >= 4 * kEach - 30 * kMillisecond; }));
  ASSERT_EQ(::kill(child.pid(), SIGKILL), 0);
  ASSERT_TRUE(drain_until([&] { return levels(id).empty; }));
  rusage used{};
  int status = 0;
  ASSERT_EQ(::wait4(child.pid(), &status, 0, &used), child.pid());
  const core::Ns real =
      static_cast<core::Ns>(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * core::kSecond +
      static_cast<core::Ns>(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * core::kMicrosecond;
  EXPECT_LE(levels(id).cpu_ns, real + kMillisecond);
  child.wait();
}

// A double fork with setsid leaves the tree in no way, and each of it is reached.
TEST_F(ProcfsReal, NobodyLeavesATree) {
  const Subreaper subreaper;
  const Gate go;
  Child child([&] {
    go.wait();
    if (::fork() == 0) {
      ::setsid();
      if (::fork() != 0) {
        ::_exit(0);
      }
      touch(20 * kMiB);
      pause_forever();
    }
    pause_forever();
  });
  const WatchId id = watch(PG_SCOPE_TREE, child.pid());
  EXPECT_FALSE(levels(id).degraded);
  go.open();
  std::vector<Member> members;
  ASSERT_TRUE(wait_until([&] {
    // The one in the middle ends: two are left, and the last has come to us.
    members = source_->members(id).value();
    return members.size() == 2 && levels(id).memory_plain_bytes > 20 * kMiB &&
           std::all_of(members.begin(), members.end(), [](const Member& member) {
             const auto stat = sys::ProcRoot().stat(member.pid);
             return stat && stat->ppid == ::getpid();
           });
  }));
  for (const Member& member : members) {
    const auto pidfd = source_->open_member(id, member);
    ASSERT_TRUE(pidfd) << pidfd.error().message();
    ASSERT_TRUE(sys::send_signal(pidfd.value().get(), SIGKILL));
  }
  ASSERT_TRUE(drain_until([&] { return levels(id).empty; }));
  for (const Member& member : members) {
    EXPECT_FALSE(source_->open_member(id, member));
    if (member.pid != child.pid()) {
      EXPECT_EQ(::waitpid(member.pid, nullptr, 0), member.pid);
    }
  }
}

TEST_F(ProcfsReal, AForkSharesAndAnExecDoesNot) {
  const Subreaper subreaper;
  const Gate touched;
  const Gate go;
  Child child([&] {
    touch(100 * kMiB);
    touched.open();
    go.wait();
    if (::fork() == 0) {
      pause_forever();
    }
    if (::vfork() == 0) {  // its parent waits for it in the same address space
      ::execl("/bin/sleep", "sleep", "1000", nullptr);
      ::_exit(1);
    }
    pause_forever();
  });
  touched.wait();
  const std::uint64_t parent = sys::ProcRoot().rss_bytes(child.pid()).value();
  const WatchId id = watch(PG_SCOPE_TREE, child.pid());
  go.open();
  ASSERT_TRUE(wait_until([&] {
    const auto members = source_->members(id).value();
    return members.size() == 3 &&
           std::any_of(members.begin(), members.end(), [](const Member& member) {
             return sys::ProcRoot().stat(member.pid).value().comm == "sleep";
           });
  }));
  const Levels now = levels(id);
  EXPECT_GT(now.memory_plain_bytes, parent + 90 * kMiB);
  EXPECT_GE(now.memory_bytes, parent);
  EXPECT_LT(now.memory_bytes, parent + 40 * kMiB);
  const auto members = source_->members(id).value();
  for (const Member& member : members) {
    const auto pidfd = source_->open_member(id, member);
    ASSERT_TRUE(pidfd);
    ASSERT_TRUE(sys::send_signal(pidfd.value().get(), SIGKILL));
  }
  ASSERT_TRUE(drain_until([&] { return levels(id).empty; }));
  for (const Member& member : members) {  // those came to us
    if (member.pid != child.pid()) {
      EXPECT_EQ(::waitpid(member.pid, nullptr, 0), member.pid);
    }
  }
}

TEST_F(ProcfsReal, UsageTellsASpinnerFromASleeper) {
  Child child([] {
    std::thread([] { burn(core::kSecond * 1000); }).detach();
    pause_forever();
  });
  const WatchId id = watch(PG_SCOPE_PROCESS, child.pid());
  ASSERT_TRUE(wait_until([&] { return levels(id).cpu_ns > 100 * kMillisecond; }));
  const auto usage = source_->usage(id);
  ASSERT_TRUE(usage);
  ASSERT_EQ(usage.value().threads.size(), 2U);
  for (const ThreadUsage& thread : usage.value().threads) {
    const bool leader = thread.tid == child.pid();
    EXPECT_EQ(thread.state, leader ? 'S' : 'R');
    EXPECT_EQ(thread.usage.cpu_ns > 50 * kMillisecond, !leader);
    EXPECT_GT(thread.usage.blocked_ns[PG_BLOCKED_SLEEP] + 1, leader ? 50 * kMillisecond : 0);
  }
}

class ProcfsRealCgroup : public test::RealCgroup {
 protected:
  void SetUp() override {
    RealCgroup::SetUp();
    auto made = ProcfsSource::create(clock_, default_procfs_options());
    ASSERT_TRUE(made);
    source_ = std::move(made).value();
  }
  void TearDown() override {
    source_.reset();
    RealCgroup::TearDown();
  }
  Target target() const { return {.scope = PG_SCOPE_CGROUP, .cgroup_path = path_}; }

  sys::MonotonicClock clock_;
  std::unique_ptr<ProcfsSource> source_;
};

TEST_F(ProcfsRealCgroup, MembersComeGoAndAreTold) {
  make("/deep");
  const auto id = source_->watch(target());
  ASSERT_TRUE(id) << id.error().message();
  EXPECT_STREQ(source_->membership(), "cgroup");
  EXPECT_EQ(source_->next_check(0), core::kNever);
  EXPECT_FALSE(source_->levels(id.value()).value().empty);  // nobody was there yet

  Child one([] {
    burn(50 * kMillisecond);
    pause_forever();
  });
  Child below([] { pause_forever(); });
  enter("", one.pid());
  enter("/deep", below.pid());
  ASSERT_TRUE(source_->levels(id.value()));
  EXPECT_EQ(source_->levels(id.value()).value().processes, 2U);
  EXPECT_GT(source_->levels(id.value()).value().memory_bytes, 0U);
  EXPECT_TRUE(wait_until([&] { return source_->levels(id.value()).value().cpu_ns > 0; }));

  // Who has moved out is signalled no more.
  const auto members = source_->members(id.value()).value();
  ASSERT_TRUE(sys::write_file(mounts_.v2->point + "/cgroup.procs", std::to_string(one.pid())));
  for (const Member& member : members) {
    EXPECT_EQ(source_->open_member(id.value(), member).ok(), member.pid == below.pid());
  }
  EXPECT_EQ(source_->levels(id.value()).value().processes, 1U);
  source_->drain();

  below.end();
  std::vector<WatchId> told;
  ASSERT_TRUE(wait_until([&] {
    pollfd entry{.fd = source_->event_fd(), .events = POLLIN, .revents = 0};
    if (::poll(&entry, 1, 1000) == 1 && told.empty()) {
      told = source_->drain();
    }
    return !told.empty();
  }));
  EXPECT_EQ(told, std::vector<WatchId>{id.value()});
  EXPECT_TRUE(source_->levels(id.value()).value().empty);
}

TEST_F(ProcfsRealCgroup, ARemovedOneIsAnErrorAlsoWhenMadeAnew) {
  Target target = this->target();
  const auto id = source_->watch(target);
  ASSERT_TRUE(id);
  ASSERT_EQ(::rmdir(path_.c_str()), 0);
  ASSERT_FALSE(source_->levels(id.value()));
  EXPECT_EQ(source_->levels(id.value()).error().code(), ENODEV);
  ASSERT_EQ(::mkdir(path_.c_str(), 0755), 0);
  EXPECT_FALSE(source_->levels(id.value()));
  EXPECT_FALSE(source_->members(id.value()));
  // By its number the new one is another, too.
  target.cgroup_id = 1;
  EXPECT_FALSE(source_->watch(target));
}

}  // namespace
}  // namespace procguard::engine
