// SPDX-License-Identifier: Apache-2.0
// The end of trees and cgroups that do not want to end: the kernel kills whoever runs or is born,
// sweeps kill who sleeps. Killing them one by one does not end a fork bomb.
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "engine/executor.h"
#include "engine/pidfd_signaler.h"
#include "engine/process_facts.h"
#include "sys/procfs.h"
#include "tests/bpf/watched.h"
#include "tests/support/subprocess.h"

namespace procguard::test {
namespace {

constexpr auto kDeadline = std::chrono::seconds(15);  // measured: 10 to 40 ms on an idle machine

// Live processes that execute this file, by /proc.
std::vector<pid_t> live_processes_of(const std::string& executable) {
  std::vector<pid_t> found;
  const auto pids = sys::ProcRoot().processes();
  for (const pid_t pid : pids.value()) {
    std::array<char, 4096> path{};
    const std::string link = "/proc/" + std::to_string(pid) + "/exe";
    const ssize_t size = ::readlink(link.c_str(), path.data(), path.size());
    if (size > 0 && executable == std::string(path.data(), static_cast<std::size_t>(size)) &&
        process_state(pid) != 'Z') {
      found.push_back(pid);
    }
  }
  return found;
}

class Doom : public Watched {
 protected:
  // What the executor's SIGKILL does, until nobody is left. The kernel alone: nothing is swept.
  void end(engine::WatchId id, const engine::Target& target, bool kernel_alone) {
    engine::PidfdSignaler signaler;
    engine::Executor executor(source(), signaler, engine::process_facts(), ::getpid());
    source().doom(id);
    const auto ended = [&] {
      if (!kernel_alone) {
        EXPECT_TRUE(executor.sweep(target, id).ok());
      }
      return levels(id).processes == 0;
    };
    EXPECT_TRUE(wait_until(ended, kDeadline)) << levels(id).processes << " are left";
  }
};

// ---- fork bombs ---------------------------------------------------------------------------------

struct Bomb {
  std::string kind;
  bool kernel_alone;
  bool cgroup;
};
void PrintTo(const Bomb& row, std::ostream* os) {
  *os << row.kind;
}

class DoomForkBomb : public Doom, public testing::WithParamInterface<Bomb> {};

TEST_P(DoomForkBomb, LeavesNoSurvivor) {
  constexpr int kLive = 80;
  // Under a name of its own: other bombs on this machine are none of ours.
  const std::string own = program("fork_bomb") + "-" + std::to_string(::getpid());
  ::unlink(own.c_str());
  ASSERT_EQ(::link(program("fork_bomb").c_str(), own.c_str()), 0);
  std::optional<TestCgroup> cgroup;
  {
    Peer peer = Peer::program(
        {own, "--kind", GetParam().kind, "--live", std::to_string(kLive), "--seconds", "25"});
    engine::Target what = target(PG_SCOPE_TREE, peer.pid());
    if (GetParam().cgroup) {
      cgroup.emplace();
      cgroup->add(peer.pid());
      what = target(PG_SCOPE_CGROUP, 0);
      what.cgroup_id = cgroup->id();
      // No path: cgroup.kill is not what is tested here.
    }
    const auto id = watch(what);
    peer.tell();
    // Of a chain most links are dead at any moment.
    const unsigned enough = GetParam().kind == "chain" ? 4 : kLive / 2;
    EXPECT_TRUE(wait_until([&] { return levels(id).processes >= enough; }, kDeadline))
        << "the bomb did not go off";
    end(id, what, GetParam().kernel_alone);
    EXPECT_TRUE(wait_until([&] { return live_processes_of(own).empty(); }))
        << live_processes_of(own).size() << " survivors";
    EXPECT_TRUE(levels(id).empty);
    EXPECT_FALSE(levels(id).degraded);
    EXPECT_EQ(levels(id).memory_bytes, 0U);
  }
  ::unlink(own.c_str());
}

INSTANTIATE_TEST_SUITE_P(Bombs, DoomForkBomb,
                         testing::Values(Bomb{"chain", false, false}, Bomb{"wide", false, false},
                                         Bomb{"setsid", false, false}, Bomb{"vfork", false, false},
                                         Bomb{"threads", false, false}, Bomb{"chain", true, false},
                                         Bomb{"wide", true, false}, Bomb{"setsid", true, false},
                                         Bomb{"wide", false, true}),
                         [](const auto& row) {
                           return row.param.kind +
                                  (row.param.kernel_alone ? "ByTheKernelAlone" : "") +
                                  (row.param.cgroup ? "InACgroup" : "");
                         });

// ---- who is met, and who is not
// -------------------------------------------------------------------

Peer sleeper_with_children() {
  return Peer([](Script& line) {
    for (int i = 0; i < 3; ++i) {
      fork_orphan(sleep_on);
    }
    line.say();
    for (;;) {
      line.hear();
      line.say();
    }
  });
}

TEST_F(Doom, SleepersNeedTheSweep) {
  Peer peer = sleeper_with_children();
  peer.hear();
  const auto id = watch_tree(peer.pid());
  ASSERT_EQ(levels(id).processes, 4U);
  ASSERT_TRUE(at_rest(member_pids(id)));
  source().doom(id);
  // Its program comes beside; this waits for it.
  ASSERT_TRUE(source().programs().attach(kernel::Group::kDoom).ok());
  peer.tell();  // it wakes up
  EXPECT_TRUE(wait_until([&] { return levels(id).processes == 3; }));
  EXPECT_EQ(peer.wait(), SIGKILL);
  engine::PidfdSignaler signaler;
  engine::Executor executor(source(), signaler, engine::process_facts(), ::getpid());
  const auto met = executor.sweep(target(PG_SCOPE_TREE, peer.pid()), id);
  ASSERT_TRUE(met.ok());
  EXPECT_EQ(met.value(), 3U);
  EXPECT_TRUE(wait_until([&] { return levels(id).processes == 0; }));
}

TEST_F(Doom, OthersAreLeftAlone) {
  Peer doomed = sleeper_with_children();
  Peer other = sleeper_with_children();
  doomed.hear();
  other.hear();
  const auto id = watch_tree(doomed.pid());
  const auto other_id = watch_tree(other.pid());
  end(id, target(PG_SCOPE_TREE, doomed.pid()), false);
  for (int i = 0; i < 20; ++i) {
    other.ask();
  }
  EXPECT_EQ(levels(other_id).processes, 4U);
  source().release(id);
  other.ask();
  EXPECT_EQ(levels(other_id).processes, 4U);
  end(other_id, target(PG_SCOPE_TREE, other.pid()), false);
}

// The watch was doomed, not the process: released, it goes on.
TEST_F(Doom, EndsWithTheWatch) {
  Peer peer = sleeper_with_children();
  peer.hear();
  const auto doomed = watch_process(peer.pid());
  const auto tree = watch_tree(peer.pid());
  source().doom(doomed);
  source().release(doomed);
  for (int i = 0; i < 20; ++i) {
    peer.ask();
  }
  EXPECT_EQ(levels(tree).processes, 4U);
  end(tree, target(PG_SCOPE_TREE, peer.pid()), false);
}

}  // namespace
}  // namespace procguard::test
