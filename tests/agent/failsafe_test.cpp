// SPDX-License-Identifier: Apache-2.0
// Failsafe: while no agent runs the kernel takes the last step of the guards that asked for it, of
// no others, and the next agent knows.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>

#include "sys/cgroup.h"
#include "sys/files.h"
#include "sys/pidfd.h"
#include "tests/agent/agent_under_test.h"
#include "tests/agent/ends.h"
#include "tests/agent/victims.h"
#include "tests/support/peer.h"

namespace procguard::test {
namespace {

constexpr core::Ns kMs = core::kMillisecond;

class AgentFailsafe : public AgentTest {
 protected:
  static Wanted failsafe(Wanted wanted) { return wanted.flags(proto::kFailsafe); }

  // With an agent again: the kernel's step is told as the last one, and was not repeated.
  void expect_told(std::uint64_t id, pg_resource resource) {
    const auto step = event(id, PG_EVENT_STEP);
    ASSERT_TRUE(step);
    EXPECT_EQ(step->event.by, static_cast<unsigned>(PG_BY_KERNEL));
    EXPECT_EQ(step->event.result, static_cast<unsigned>(PG_RESULT_SENT));
    EXPECT_EQ(step->event.resource, static_cast<unsigned>(resource));
    EXPECT_EQ(step->event.signal, static_cast<unsigned>(SIGKILL));
    int steps = 0;
    for (const proto::EventBody& each : events(id)) {
      steps += each.event.kind == PG_EVENT_STEP ? 1 : 0;
    }
    EXPECT_EQ(steps, 1);
  }
  // Has all of them ended? Nobody is in the way: there is no agent.
  static void expect_ended(Ends& ends, std::size_t count) {
    EXPECT_TRUE(ends.wait_for_all(20s));
    for (std::size_t place = 0; place < count; ++place) {
      EXPECT_NE(ends.at(place), 0U) << "member " << place;
    }
  }
};

TEST_F(AgentFailsafe, MemoryOfAProcessAtTheCrossing) {
  Victim target;
  target.start(&Victim::grow);
  const std::uint64_t id =
      attach(failsafe(process_guard().memory(rss(target.pid()) + kGrowsOver)), target.pid());
  kill_agent();
  Ends ends;
  ends.add(target.pid());
  ends.watch();
  target.board().grow_at_ns = now_ns();
  expect_ended(ends, 1);
  EXPECT_NE(target.board().near_ns, 0U) << "not before the crossing";
  EXPECT_EQ(target.board().beyond_ns, 0U) << "at the crossing";
  start_agent();
  expect_told(id, PG_MEMORY);
  EXPECT_TRUE(event(id, PG_EVENT_TARGET_EXITED));
}

// A later step than the first: the kernel's first step at the crossing is not the failsafe.
TEST_F(AgentFailsafe, MemoryAfterItsGrace) {
  Victim target;
  target.start(&Victim::grow);
  const std::uint64_t id = attach(failsafe(process_guard()
                                               .memory(rss(target.pid()) + kGrowsOver)
                                               .grace(100 * kMs)
                                               .ladder("INT:1h,KILL")),
                                  target.pid());
  kill_agent();
  Ends ends;
  ends.add(target.pid());
  ends.watch();
  target.board().grow_at_ns = now_ns();
  expect_ended(ends, 1);
  EXPECT_GE(ends.at(0), target.board().near_ns + 100 * kMs);
  start_agent();
  expect_told(id, PG_MEMORY);
}

TEST_F(AgentFailsafe, MemoryOfATreeTakesTheSleepers) {
  Victim target;
  target.start(&Victim::grow_by_a_child);
  const std::uint64_t id = attach(
      failsafe(tree_guard().memory(rss(target.pid()) + rss(target.board().child) + kGrowsOver)),
      target.pid());
  kill_agent();
  Ends ends;
  ends.add(target.board().child);
  ends.add(target.pid());  // it sleeps for good
  ends.watch();
  target.board().grow_at_ns = now_ns();
  expect_ended(ends, 2);
  start_agent();
  expect_told(id, PG_MEMORY);
}

TEST_F(AgentFailsafe, TimeoutOfATreeWithAGrandchildInAnotherSession) {
  Victim target;
  target.start(&Victim::have_a_grandchild);
  const core::Ns armed = now_ns();
  const std::uint64_t id = attach(failsafe(tree_guard().timeout(300ms)), target.pid());
  kill_agent();
  Ends ends;
  ends.add(target.pid());
  ends.add(target.board().child);
  ends.watch();
  expect_ended(ends, 2);
  EXPECT_GE(std::min(ends.at(0), ends.at(1)), armed + 300 * kMs) << "never early";
  start_agent();
  expect_told(id, PG_TIMEOUT);
}

struct Timed {
  const char* what;
  Victim::Body body;
};

class AgentFailsafeTimeout : public AgentFailsafe, public ::testing::WithParamInterface<Timed> {};

TEST_P(AgentFailsafeTimeout, EndsIt) {
  Victim target;
  target.start(GetParam().body);
  const core::Ns armed = now_ns();
  const std::uint64_t id =
      attach(failsafe(process_guard().timeout(300ms).ladder("INT:100ms,KILL")), target.pid());
  kill_agent();
  Ends ends;
  ends.add(target.pid());
  ends.watch();
  expect_ended(ends, 1);
  EXPECT_GE(ends.at(0), armed + 400 * kMs) << "the last step, when it is due";
  EXPECT_LE(ends.at(0), armed + 5000 * kMs);
  start_agent();
  expect_told(id, PG_TIMEOUT);
}

INSTANTIATE_TEST_SUITE_P(Targets, AgentFailsafeTimeout,
                         ::testing::Values(Timed{"spins", &Victim::spin_on},
                                           Timed{"naps", &Victim::nap},
                                           Timed{"sleeps", &Victim::sleep}),
                         [](const auto& row) { return std::string(row.param.what); });

TEST_F(AgentFailsafe, CpuTime) {
  Victim target;
  target.start(&Victim::spin_on);
  const std::uint64_t id = attach(failsafe(process_guard().cpu(300ms)), target.pid());
  kill_agent();
  Ends ends;
  ends.add(target.pid());
  ends.watch();
  expect_ended(ends, 1);
  start_agent();
  expect_told(id, PG_CPU);
}

// One that spins is looked at all the time: whoever else is touched would be soon.
TEST_F(AgentFailsafe, WhoDidNotAskIsNotTouched) {
  Victim plain;
  Victim monitored;
  Victim asked;
  for (Victim* each : {&plain, &monitored, &asked}) {
    each->start(&Victim::spin_on);
  }
  const std::uint64_t id =
      attach(process_guard().timeout(200ms).ladder("INT:1h,KILL"), plain.pid());
  attach(failsafe(process_guard().timeout(200ms)).flags(proto::kMonitor), monitored.pid());
  attach(failsafe(process_guard().timeout(600ms)), asked.pid());
  kill_agent();
  Ends ends;
  ends.add(asked.pid());
  ends.watch();
  expect_ended(ends, 1);
  EXPECT_TRUE(plain.alive());
  EXPECT_TRUE(monitored.alive());
  start_agent();
  const auto step = event(id, PG_EVENT_STEP);
  ASSERT_TRUE(step);
  EXPECT_EQ(step->event.by, static_cast<unsigned>(PG_BY_CONTROLLER)) << "late, but the agent's";
}

TEST_F(AgentFailsafe, ALiveAgentTakesItsStepsItself) {
  Victim target;
  target.start(&Victim::spin_on);
  const std::uint64_t id = attach(failsafe(process_guard().timeout(200ms)), target.pid());
  const auto step = event(id, PG_EVENT_STEP);
  ASSERT_TRUE(step);
  EXPECT_EQ(step->event.by, static_cast<unsigned>(PG_BY_CONTROLLER));
}

// Arms it as another user would; false: refused.
bool attach_as(uid_t uid, const AgentPlace& place, Wanted wanted, pid_t pid) {
  const auto pidfd = sys::open_pidfd(pid);
  ::chmod(place.directory.c_str(), 0711);
  ::chmod(place.socket.c_str(), 0666);
  wanted.flags(proto::kHasFd);
  Sleeper client([&] {
    const bool became = ::setresgid(uid, uid, uid) == 0 && ::setresuid(uid, uid, uid) == 0;
    auto connected = proto::Client::connect(place.socket);
    if (!became || !connected) {
      return;
    }
    proto::Writer request(proto::Op::kAttach, connected->request());
    request.add(wanted.body);
    const int fd = pidfd->get();
    const auto reply = connected->call(request, std::span(&fd, 1));
    if (reply && reply->op() == proto::Op::kAttach) {
      ::raise(SIGTERM);  // says "yes"
    }
  });
  return client.wait() == SIGTERM;
}

// A tree of a user, of which one member becomes root, as sudo does.
TEST_F(AgentFailsafe, AMemberThatBecameRootIsSpared) {
  Victim user;
  user.start(&Victim::be_a_user);
  ASSERT_TRUE(attach_as(Victim::kUser, place_, failsafe(tree_guard().timeout(500ms)), user.pid()));
  user.board().become_root = true;
  ASSERT_TRUE(wait_until([&] { return user.board().is_root.load(); }));
  kill_agent();
  Ends ends;
  ends.add(user.pid());
  const std::size_t child = ends.add(user.board().child);
  ends.watch();
  EXPECT_TRUE(wait_until([&] { return ends.at(0) != 0; }, 20s));
  start_agent();
  sleep_ns(200 * kMs);  // it spins: a tick, a sweep would have had it by now
  EXPECT_EQ(ends.at(child), 0U);
}

// A cgroup of its own; gone at the end.
class OwnCgroup {
 public:
  OwnCgroup() {
    const auto mounts = sys::read_cgroup_mounts();
    path_ = mounts->v2->point + "/procguard-test-failsafe-" + std::to_string(::getpid());
    EXPECT_EQ(::mkdir(path_.c_str(), 0755), 0) << path_;
  }
  OwnCgroup(const OwnCgroup&) = delete;
  OwnCgroup& operator=(const OwnCgroup&) = delete;
  ~OwnCgroup() {
    EXPECT_TRUE(wait_until([&] { return ::rmdir(path_.c_str()) == 0; })) << path_;
  }
  void add(pid_t pid) const {
    EXPECT_TRUE(sys::write_file(path_ + "/cgroup.procs", std::to_string(pid)));
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

TEST_F(AgentFailsafe, MemoryOfACgroupTakesTheSleepers) {
  const OwnCgroup cgroup;
  Victim grower;
  Victim sleeper;
  grower.start(&Victim::grow);
  sleeper.start(&Victim::sleep);
  cgroup.add(grower.pid());
  cgroup.add(sleeper.pid());
  const std::uint64_t both = rss(grower.pid()) + rss(sleeper.pid());
  const std::uint64_t id =
      attach_cgroup(failsafe(cgroup_guard().memory(both + kGrowsOver)), cgroup.path());
  kill_agent();
  Ends ends;
  ends.add(grower.pid());
  ends.add(sleeper.pid());
  ends.watch();
  grower.board().grow_at_ns = now_ns();
  expect_ended(ends, 2);
  start_agent();
  expect_told(id, PG_MEMORY);
}

// The next tenants of a cgroup are not to die of what the last ones were over, in this gap or
// another.
TEST_F(AgentFailsafe, WhoComesIntoTheCgroupAfterItLives) {
  const OwnCgroup cgroup;
  Victim first;
  first.start(&Victim::spin_on);
  cgroup.add(first.pid());
  const std::uint64_t id = attach_cgroup(failsafe(cgroup_guard().timeout(300ms)), cgroup.path());
  kill_agent();
  Ends ends;
  ends.add(first.pid());
  ends.watch();
  expect_ended(ends, 1);
  Peer later([](Script& line) {
    for (;;) {
      line.hear();
      line.say();
    }
  });
  cgroup.add(later.pid());
  const auto lives = [&later] {
    for (int i = 0; i < 100; ++i) {  // each some switches: where the kernel would act
      later.ask();
    }
    return process_state(later.pid()) == 'S' || process_state(later.pid()) == 'R';
  };
  EXPECT_TRUE(lives());
  start_agent();
  expect_told(id, PG_TIMEOUT);
  EXPECT_TRUE(lives());
  kill_agent();
  EXPECT_TRUE(lives());
  start_agent();
}

}  // namespace
}  // namespace procguard::test
