// SPDX-License-Identifier: Apache-2.0
// A sum of RSS is over address spaces: what several processes share counts once, by the one it was
// made by, and counts on when that one has ended. The plain sum stands beside it.
#include <linux/sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <functional>
#include <optional>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

#include "tests/bpf/watched.h"
#include "tests/support/subprocess.h"

namespace procguard::test {
namespace {

constexpr std::uint64_t kParent = 32 * kMiB;
constexpr std::uint64_t kMore = 8 * kMiB;

class MemorySharing : public Watched {
 protected:
  // What is counted for a tree of one process: all of it, once.
  void expect_alone(engine::WatchId id, pid_t pid, const char* when) {
    ASSERT_TRUE(wait_until([&] { return levels(id).processes == 1; })) << when;
    expect_exact(id, pid, when);
  }
  std::uint64_t base_of(pid_t pid) { return process(pid).base_bytes; }
};

// ---- fork ---------------------------------------------------------------------------------------

// A parent touches kParent and forks. The child, when told, touches kMore; later one of them is
// killed by the test.
class ForkedChild : public MemorySharing {
 protected:
  void start() {
    peer_.emplace([](Script& line) {
      touch(map_pages(kParent), kParent);
      line.hear();
      const pid_t child = fork_child([&line] {
        outlive_parent();
        line.say();
        line.hear();
        touch(map_pages(kMore), kMore);
        line.say();
        ::pause();
      });
      line.say(child);
      ::pause();
    });
    id_ = watch_tree(peer_->pid());
    const auto one = peer_->ask();
    const auto other = peer_->hear();
    child_ = static_cast<pid_t>(one != 0 ? one : other);  // two writers on one line
    ASSERT_TRUE(at_rest({peer_->pid(), child_}));
  }
  void TearDown() override {
    if (child_ > 0) {
      ::kill(child_, SIGKILL);
    }
    peer_.reset();
    MemorySharing::TearDown();
  }
  std::uint64_t rss_of_both() { return rss_of(peer_->pid()).total + rss_of(child_).total; }

  std::optional<Peer> peer_;
  pid_t child_ = 0;
  engine::WatchId id_ = 0;
};

TEST_F(ForkedChild, CountsOnlyWhatItGrew) {
  start();
  const std::uint64_t base = base_of(child_);
  EXPECT_GE(base, kParent);
  EXPECT_EQ(levels(id_).memory_bytes, rss_of_both() - base);
  EXPECT_EQ(levels(id_).memory_plain_bytes, rss_of_both());
  peer_->ask();
  ASSERT_TRUE(at_rest({child_}));
  EXPECT_EQ(base_of(child_), base);
  EXPECT_GE(rss_of(child_).total, base + kMore);
  EXPECT_EQ(levels(id_).memory_bytes, rss_of_both() - base);
  EXPECT_EQ(levels(id_).memory_plain_bytes, rss_of_both());
  EXPECT_GE(levels(id_).memory_plain_peak_bytes, 2 * kParent + kMore);
  EXPECT_LT(levels(id_).memory_peak_bytes, rss_of(peer_->pid()).total + kParent)
      << "shared pages counted twice at the fork";
}

TEST_F(ForkedChild, CountsAllWhenItsParentHasEnded) {
  start();
  peer_->ask();
  const std::uint64_t peak = levels(id_).memory_peak_bytes;
  ::kill(peer_->pid(), SIGKILL);  // not waited for: a zombie is none of the tree
  expect_alone(id_, child_, "the child alone");
  EXPECT_GE(levels(id_).memory_bytes, kParent + kMore);
  EXPECT_LE(levels(id_).memory_peak_bytes, peak + kMiB) << "counted twice for a moment";
}

// ---- a parent's address space ends in many ways
// --------------------------------------------------

// Runs `script` in a tree; its first word is the pid of a child of the parent's size that sleeps
// on. When told, the parent's address space ends. The tree must count what is left of both.
struct ParentEnds {
  std::string name;
  std::function<void(Script&)> script;
  bool parent_lives = false;
};
void PrintTo(const ParentEnds& row, std::ostream* os) {
  *os << row.name;
}

class MemoryOfParentThatEnds : public MemorySharing,
                               public testing::WithParamInterface<ParentEnds> {};

void outlive() {
  outlive_parent();
  sleep_on();
}

TEST_P(MemoryOfParentThatEnds, CountsForTheChild) {
  Peer peer([](Script& line) {
    touch(map_pages(kParent), kParent);
    line.hear();
    GetParam().script(line);
  });
  const auto id = watch_tree(peer.pid());
  const auto child = static_cast<pid_t>(peer.ask());
  ASSERT_GT(child, 0);
  ASSERT_TRUE(at_rest({child}));
  EXPECT_LT(levels(id).memory_bytes, rss_of(child).total + kParent) << "shared pages count once";
  const std::uint64_t peak = levels(id).memory_peak_bytes;
  peer.tell();
  if (GetParam().parent_lives) {
    ASSERT_TRUE(wait_until([&] { return process(peer.pid()).exec_ns != 0; }));
    ASSERT_TRUE(at_rest({peer.pid(), child}));
    EXPECT_EQ(levels(id).memory_bytes, rss_of(peer.pid()).total + rss_of(child).total);
    EXPECT_EQ(levels(id).memory_plain_bytes, levels(id).memory_bytes);
  } else {
    peer.wait();
    expect_alone(id, child, "the child alone");
  }
  EXPECT_GE(rss_of(child).total, kParent);
  EXPECT_LE(levels(id).memory_peak_bytes, peak + 4 * kMiB) << "counted twice for a moment";
  ::kill(child, SIGKILL);
}

void exec_sleeper() {
  const std::string path = program("sleeper");
  ::execl(path.c_str(), "sleeper", "--unready", nullptr);
  ::_exit(3);
}

const std::vector<ParentEnds> kWays = {
    {"Exits",
     [](Script& line) {
       line.say(fork_child(outlive));
       line.hear();
     }},
    {"Execs",
     [](Script& line) {
       line.say(fork_child(outlive));
       line.hear();
       exec_sleeper();
     },
     true},
    {"ExitsAndAnotherThreadHadForked",
     [](Script& line) {
       std::thread other([&line] {
         line.say(fork_child(outlive));
         ::pause();
       });
       line.hear();
       ::_exit(0);
     }},
    {"EndsByTheLastThread",
     [](Script& line) {
       std::thread other([&line] {
         line.say(fork_child(outlive));
         line.hear();
         end_thread();
       });
       end_thread();
     }},
};

INSTANTIATE_TEST_SUITE_P(Ways, MemoryOfParentThatEnds, testing::ValuesIn(kWays),
                         [](const auto& row) { return row.param.name; });

// It is no child of the process it was forked from, whose end therefore tells nothing about it: its
// pages count from the start.
TEST_F(MemorySharing, SiblingOfItsForkerCountsAll) {
  Peer peer([](Script& line) {
    line.hear();
    const pid_t forker = fork_child([&line] {
      touch(map_pages(kParent), kParent);
      line.say(clone_child(CLONE_PARENT, outlive));
      ::pause();
    });
    line.hear();
    ::kill(forker, SIGKILL);
    ::waitpid(forker, nullptr, 0);
    line.say();
    line.hear();
  });
  const auto id = watch_tree(peer.pid());
  const auto child = static_cast<pid_t>(peer.ask());
  peer.ask();
  ASSERT_TRUE(at_rest({peer.pid(), child}));
  EXPECT_EQ(levels(id).processes, 2U);
  EXPECT_EQ(levels(id).memory_bytes, rss_of(peer.pid()).total + rss_of(child).total);
  EXPECT_GE(levels(id).memory_bytes, kParent);
  ::kill(child, SIGKILL);
}

// The kernel builds the child's address space and takes it down again, with the parent's pid in the
// half-made child.
TEST_F(MemorySharing, ForksThatFailLate) {
  Peer peer([](Script& line) {
    touch(map_pages(kParent), kParent);
    line.hear();
    for (int i = 0; i < 200; ++i) {
      if (clone_child(
              0, [] {}, ::getpid()) >= 0 ||
          errno != EEXIST) {
        ::_exit(3);
      }
    }
    line.say();
    line.hear();
  });
  const auto id = watch_tree(peer.pid());
  ASSERT_TRUE(at_rest({peer.pid()}));
  const std::uint64_t own = rss_of(peer.pid()).total;
  limit_memory(id, own + kMore);
  peer.ask();
  expect_alone(id, peer.pid(), "after 200 forks that failed");
  EXPECT_EQ(levels(id).memory[0].episodes, 0U);
  EXPECT_LT(levels(id).memory_plain_peak_bytes, own + kMore);
}

}  // namespace
}  // namespace procguard::test
