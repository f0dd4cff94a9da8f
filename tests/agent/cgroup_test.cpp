// SPDX-License-Identifier: Apache-2.0
// Guards on cgroups that look like containers: several processes, some of which do not want to end.
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <vector>

#include "sys/procfs.h"
#include "tests/agent/agent_under_test.h"
#include "tests/support/peer.h"
#include "tests/support/test_cgroup.h"

namespace procguard::test {
namespace {

constexpr const char* kLadder = "INT:200ms,TERM:200ms,KILL";
// What forked children that only end take meanwhile, in MiB: of an instrumented binary a lot.
#ifdef __SANITIZE_ADDRESS__
constexpr std::uint64_t kSlack = 400;
#else
constexpr std::uint64_t kSlack = 30;
#endif

void ignore_what_can_be() {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    ::signal(signal, SIG_IGN);
  }
}

// Grows by as many MiB as it is told, and says when it has.
void grow(Script& line) {
  for (;;) {
    const auto bytes = static_cast<std::uint64_t>(line.hear()) * kMiB;
    if (bytes > 0) {
      touch(map_pages(bytes), bytes);
    }
    line.say();
  }
}

// Forks children that end, one after the other.
[[noreturn]] void fork_on() {
  for (;;) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::_exit(0);
    }
    ::waitpid(child, nullptr, 0);
  }
}

// Three processes in a cgroup: an ordinary one, one that ignores what it can, one that forks.
struct Container {
  TestCgroup cgroup;
  Peer ordinary{grow};
  Peer stubborn{[](Script& line) {
    ignore_what_can_be();
    grow(line);
  }};
  Peer forking{[](Script& line) {
    const std::int64_t mib = line.hear();
    fork_child(fork_on);
    if (mib > 0) {
      touch(map_pages(mib * kMiB), mib * kMiB);
    }
    line.say();
    grow(line);
  }};

  Container() {
    for (const Peer* peer : {&ordinary, &stubborn, &forking}) {
      cgroup.add(peer->pid());
    }
    forking.ask();  // it forks from now on
  }
  std::uint64_t rss() const {
    const sys::ProcRoot proc;
    return proc.rss_bytes(ordinary.pid()).value() + proc.rss_bytes(stubborn.pid()).value() +
           proc.rss_bytes(forking.pid()).value();
  }
  void grow_by_90() {
    for (Peer* peer : {&ordinary, &stubborn, &forking}) {
      peer->ask(30);
    }
  }
  bool empty() const {
    const auto mounts = sys::read_cgroup_mounts();
    const auto opened = sys::Cgroup::open(mounts.value(), cgroup.path());
    return opened && !opened->populated().value();
  }
};

class AgentCgroups : public AgentTest {
 protected:
  void TearDown() override {
    EXPECT_TRUE(bystander_.alive()) << "nothing outside is touched";
    AgentTest::TearDown();
  }
  std::uint64_t processes(std::uint64_t id) {
    const auto shown = show(id);
    return shown ? shown->row.processes : ~0ULL;
  }
  std::vector<proto::EventBody> steps(std::uint64_t id) {
    std::vector<proto::EventBody> all = events(id);
    std::erase_if(all, [](const auto& each) { return each.event.kind != PG_EVENT_STEP; });
    return all;
  }
  bool over(std::uint64_t id) {
    return wait_until([&] {
      const auto shown = show(id);
      return shown && shown->row.guard.phase != PG_GUARD_ARMED;
    });
  }

  Sleeper bystander_;
};

TEST_F(AgentCgroups, TheSumOfMemoryTrips) {
  Container container;
  const std::uint64_t at_first = container.rss();
  const std::uint64_t limit = at_first + (90 + kSlack) * kMiB;
  const std::uint64_t id =
      attach_cgroup(cgroup_guard().memory(limit).ladder(kLadder), container.cgroup.path());
  container.grow_by_90();
  EXPECT_FALSE(container.empty());
  EXPECT_GE(show(id)->row.memory_bytes, 90 * kMiB);
  EXPECT_TRUE(steps(id).empty()) << "not all of them together are over the limit";

  container.stubborn.tell(kSlack + 20);  // nobody is over it alone
  EXPECT_EQ(WTERMSIG(container.ordinary.wait()), SIGINT);
  EXPECT_EQ(WTERMSIG(container.forking.wait()), SIGINT);
  container.stubborn.hear();
  ASSERT_TRUE(event(id, PG_EVENT_BACK_UNDER)) << "with them gone";
  const auto sum = steps(id);
  ASSERT_FALSE(sum.empty());
  EXPECT_GE(sum[0].event.observed, limit) << "members that end make it less meanwhile";
  EXPECT_EQ(sum[0].event.limit, limit);

  container.stubborn.tell(static_cast<std::int64_t>(60 + at_first / kMiB));
  EXPECT_EQ(WTERMSIG(container.stubborn.wait()), SIGKILL);
  EXPECT_TRUE(wait_until([&] { return container.empty(); }, 20s));
  const auto all = steps(id);
  ASSERT_EQ(all.size(), sum.size() + 3) << "the whole ladder, from its foot";
  EXPECT_EQ(all.end()[-3].event.signal, static_cast<unsigned>(SIGINT));
  EXPECT_EQ(all.end()[-2].event.signal, static_cast<unsigned>(SIGTERM));
  EXPECT_EQ(all.end()[-1].event.signal, static_cast<unsigned>(SIGKILL));
}

TEST_F(AgentCgroups, ATimeoutLeavesNobody) {
  Container container;
  const std::uint64_t id =
      attach_cgroup(cgroup_guard().timeout(300ms).ladder(kLadder), container.cgroup.path());
  EXPECT_TRUE(wait_until([&] { return container.empty(); }, 20s));
  EXPECT_EQ(WTERMSIG(container.stubborn.wait()), SIGKILL);
  EXPECT_EQ(WTERMSIG(container.ordinary.wait()), SIGINT);
  const auto taken = steps(id);
  ASSERT_EQ(taken.size(), 3U);
  for (unsigned i = 0; i < 3; ++i) {
    EXPECT_EQ(taken[i].event.step, i);
    EXPECT_GE(taken[i].event.at_ns, taken[i].event.due_ns);
  }
}

TEST_F(AgentCgroups, WhoComesAfterTheLastKillLives) {
  TestCgroup cgroup;
  Sleeper first;
  cgroup.add(first.pid());
  const std::uint64_t id = attach_cgroup(cgroup_guard().timeout(200ms), cgroup.path());
  EXPECT_EQ(first.wait(), SIGKILL);
  EXPECT_TRUE(wait_until([&] { return processes(id) == 0; }));
  Peer second([](Script& line) {
    for (;;) {
      line.hear();
      line.say();
    }
  });
  cgroup.add(second.pid());
  EXPECT_EQ(processes(id), 1U);
  for (int i = 0; i < 20; ++i) {
    second.ask();  // each a system call: where the kernel kills the doomed
  }
  EXPECT_EQ(list().size(), 1U) << "a cgroup's guard does not end by itself";
}

TEST_F(AgentCgroups, ATighterGuardOnAChildTripsFirstAndAlone) {
  TestCgroup outer;
  TestCgroup inner = outer.child("inner");
  Sleeper beside;
  outer.add(beside.pid());
  Peer inside(grow);
  inner.add(inside.pid());
  const std::uint64_t inner_limit = rss(inside.pid()) + 64 * kMiB;
  const std::uint64_t outer_limit = rss(beside.pid()) + inner_limit + 192 * kMiB;
  const std::uint64_t loose = attach_cgroup(cgroup_guard().memory(outer_limit), outer.path());
  const std::uint64_t tight = attach_cgroup(cgroup_guard().memory(inner_limit), inner.path());
  EXPECT_EQ(processes(loose), 2U) << "what is below is in it, too";
  inside.tell(96);
  EXPECT_TRUE(event(tight, PG_EVENT_STEP));
  EXPECT_EQ(WTERMSIG(inside.wait()), SIGKILL);
  EXPECT_TRUE(beside.alive());
  EXPECT_TRUE(steps(loose).empty());
}

TEST_F(AgentCgroups, MembersMoveInAndOut) {
  TestCgroup guarded;
  TestCgroup other;
  Peer one(grow);
  Peer two(grow);
  guarded.add(one.pid());
  const std::uint64_t limit = rss(one.pid()) + rss(two.pid()) + 128 * kMiB;
  const std::uint64_t id = attach_cgroup(cgroup_guard().memory(limit), guarded.path());
  EXPECT_EQ(processes(id), 1U);
  one.ask(60);
  other.add(one.pid());
  EXPECT_EQ(processes(id), 0U);
  EXPECT_LT(show(id)->row.memory_bytes, kMiB);
  one.ask(150);
  EXPECT_EQ(list().size(), 1U) << "who has left is not guarded";
  two.ask(100);
  guarded.add(two.pid());
  EXPECT_EQ(processes(id), 1U);
  EXPECT_GE(show(id)->row.memory_bytes, 100 * kMiB) << "what it has grown to outside counts";
  guarded.add(one.pid());  // with more than the limit
  EXPECT_EQ(WTERMSIG(one.wait()), SIGKILL);
  EXPECT_EQ(WTERMSIG(two.wait()), SIGKILL);
}

TEST_F(AgentCgroups, ARemovedCgroupReleasesItsGuard) {
  std::uint64_t id = 0;
  std::string path;
  {
    TestCgroup cgroup;
    path = cgroup.path();
    id = attach_cgroup(cgroup_guard().timeout(3600s).name("gone"), path);
  }
  EXPECT_TRUE(event(id, PG_EVENT_TARGET_EXITED));
  EXPECT_TRUE(over(id));
  EXPECT_TRUE(list().empty());
  ASSERT_EQ(::mkdir(path.c_str(), 0755), 0);
  Sleeper later;
  EXPECT_TRUE(sys::write_file(path + "/cgroup.procs", std::to_string(later.pid())));
  EXPECT_TRUE(list().empty()) << "the same path made again is another cgroup";
  EXPECT_TRUE(sys::write_file(path + "/cgroup.kill", "1"));
  later.wait();
  EXPECT_TRUE(wait_until([&] { return ::rmdir(path.c_str()) == 0; }));
}

TEST_F(AgentCgroups, AnEmptyOneIsArmedAndGuardsWhoComesLater) {
  TestCgroup cgroup;
  Peer late(grow);
  const std::uint64_t limit = rss(late.pid()) + 64 * kMiB;
  const std::uint64_t id = attach_cgroup(cgroup_guard().memory(limit), cgroup.path());
  EXPECT_EQ(processes(id), 0U);
  ASSERT_EQ(list().size(), 1U);
  cgroup.add(late.pid());
  EXPECT_EQ(processes(id), 1U);
  late.tell(96);
  EXPECT_EQ(WTERMSIG(late.wait()), SIGKILL);
  EXPECT_TRUE(event(id, PG_EVENT_STEP));
}

TEST_F(AgentCgroups, SurvivesTheAgent) {
  Container container;
  const std::uint64_t at_first = container.rss();
  const std::uint64_t limit = at_first + (90 + kSlack) * kMiB;
  const std::uint64_t id =
      attach_cgroup(cgroup_guard().memory(limit).ladder(kLadder), container.cgroup.path());
  kill_agent();
  container.grow_by_90();
  start_agent();
  EXPECT_GE(show(id)->row.memory_bytes, 90 * kMiB) << "what happened meanwhile is known";
  container.stubborn.tell(static_cast<std::int64_t>(100 + kSlack + at_first / kMiB));
  EXPECT_TRUE(wait_until([&] { return container.empty(); }, 20s));
}

// What a tenant does below, and to the way there, does not make the agent refuse root.
TEST_F(AgentCgroups, WhatItsOwnerBarsIsNoObstacle) {
  TestCgroup outer;
  TestCgroup inner = outer.child("inner");
  TestCgroup below = inner.child("below");
  for (const TestCgroup* each : {&outer, &inner, &below}) {
    ASSERT_EQ(::chown(each->path().c_str(), 65533, 65533), 0);
    ASSERT_EQ(::chmod(each->path().c_str(), 0), 0);
  }
  Sleeper member;
  inner.add(member.pid());
  EXPECT_NE(attach_cgroup(cgroup_guard().timeout(1h), outer.path()), 0U);
  const std::uint64_t id = attach_cgroup(cgroup_guard().timeout(200ms), inner.path());
  EXPECT_NE(id, 0U);
  EXPECT_EQ(member.wait(), SIGKILL);
}

TEST_F(AgentCgroups, OneOwnerACgroup) {
  TestCgroup cgroup;
  ASSERT_EQ(::chown(cgroup.path().c_str(), 65533, 65533), 0);
  ASSERT_EQ(::chown(place_.socket.c_str(), 0, 65533), 0);
  ASSERT_EQ(::chmod(place_.socket.c_str(), 0660), 0);
  ASSERT_EQ(::chmod(place_.directory.c_str(), 0755), 0);
  attach_cgroup(cgroup_guard().timeout(3600s), cgroup.path());
  EXPECT_NE(attach_cgroup(cgroup_guard().timeout(1800s), cgroup.path()), 0U) << "the same owner";
  Sleeper member;
  cgroup.add(member.pid());
  const std::string path = cgroup.path();
  const std::string socket = place_.socket;
  // The other owner says what it was refused with.
  int answer[2];
  ASSERT_EQ(::pipe(answer), 0);
  Sleeper owner([&] {
    if (::setresgid(65533, 65533, 65533) != 0 || ::setresuid(65533, 65533, 65533) != 0) {
      return;
    }
    auto mine = proto::Client::connect(socket);
    const sys::Fd directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY));
    const auto said =
        mine ? refused_fd(mine.value(), cgroup_guard().timeout(1s), directory.get()).text
             : mine.error().message();
    (void)!::write(answer[1], said.c_str(), said.size());
  });
  ::close(answer[1]);
  char text[512] = {};
  EXPECT_GT(::read(answer[0], text, sizeof(text) - 1), 0);
  ::close(answer[0]);
  EXPECT_EQ(std::string(text), "cgroup '" + path + "' is guarded for another owner, uid 0");
  owner.wait();
  EXPECT_EQ(list().size(), 2U);
  EXPECT_TRUE(member.alive());
}

}  // namespace
}  // namespace procguard::test
