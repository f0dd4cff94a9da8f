// SPDX-License-Identifier: Apache-2.0
// Who may ask the agent for what, over the real socket. What each refusal says is in
// tests/unit/authority_test.cpp; here it is that it comes, from facts about real targets.
#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <fstream>

#include "sys/pidfd.h"
#include "sys/procfs.h"
#include "tests/agent/as_user.h"
#include "tests/support/test_cgroup.h"

namespace procguard::test {
namespace {

using proto::Status;

class AgentAuthority : public AsUser {
 protected:
  void expect(const proto::Refusal& refusal, Status status, const std::string& text) {
    EXPECT_EQ(refusal.status, status) << refusal.text;
    EXPECT_NE(refusal.text.find(text), std::string::npos)
        << refusal.text << "\ndoes not say: " << text;
  }
  proto::Refusal refused_cgroup(const Wanted& wanted, const std::string& path) {
    const sys::Fd directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    EXPECT_TRUE(directory) << path;
    return refused_fd(client(), wanted, directory.get());
  }
  proto::Refusal refused_number(const Wanted& wanted, pid_t pid) {
    proto::AttachBody body = wanted.body;
    body.pid = static_cast<std::uint32_t>(pid);
    proto::Writer request(proto::Op::kAttach, client().request());
    request.add(body);
    const auto reply = client().call(request);
    EXPECT_TRUE(reply.ok());
    return reply ? proto::refusal(reply.value()) : proto::Refusal{};
  }
};

std::string number(pid_t pid) {
  return std::to_string(pid);
}

TEST_F(AgentAuthority, OutsideTheGroupNobodyIsHeard) {
  const auto refused = connect_as(kUser, kGroup - 1);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), EACCES);
}

TEST_F(AgentAuthority, AMemberGuardsItsOwn) {
  ask_as(kUser);
  const Peer mine = process_of(kUser);
  TestCgroup cgroup;
  ASSERT_EQ(::chown(cgroup.path().c_str(), kUser, kGroup), 0);
  for (const Wanted& wanted : {process_guard(), tree_guard(), thread_guard(mine.pid())}) {
    EXPECT_NE(attach(Wanted(wanted).timeout(1h), mine.pid()), 0U);
  }
  EXPECT_NE(attach_cgroup(cgroup_guard().timeout(1h), cgroup.path()), 0U);
  for (const proto::RowBody& row : list()) {
    EXPECT_EQ(row.guard.owner_uid, kUser);
  }
}

TEST_F(AgentAuthority, OthersProcessesAndCgroups) {
  ask_as(kUser);
  const Peer theirs = process_of(kOther);
  const Peer roots = process_of(0);
  const TestCgroup cgroup;
  const std::string permitted = "(permitted: processes with both the asker's)";
  expect(refused(process_guard().timeout(1s), theirs.pid()), Status::kNotPermitted,
         "uid 65533 may not guard pid " + number(theirs.pid()) +
             " of real uid 65532, saved uid 65532 " + permitted);
  expect(refused(tree_guard().timeout(1s), roots.pid()), Status::kNotPermitted,
         "uid 65533 may not guard the tree of pid " + number(roots.pid()) +
             " of real uid 0, saved uid 0 " + permitted);
  expect(refused_cgroup(cgroup_guard().timeout(1s), cgroup.path()), Status::kNotPermitted,
         "its directory is owned by uid 0");
  expect(refused_number(process_guard().timeout(1s), theirs.pid()), Status::kNotPermitted,
         "uid 65533 may not name a target by number");
}

TEST_F(AgentAuthority, NobodyGuardsWhatTheHostNeeds) {
  const auto mounts = sys::read_cgroup_mounts();
  for (const uid_t who : {uid_t{0}, kUser}) {
    SCOPED_TRACE(who);
    ask_as(who);
    const auto guard = process_guard().timeout(1s);
    expect(refused(guard, 1), Status::kNotPermitted, "the init of the agent's pid namespace");
    expect(refused(guard, 2), Status::kNotPermitted, "a kernel thread");
    expect(refused(guard, agent_->pid()), Status::kNotPermitted, "the agent itself");
    expect(refused(tree_guard().timeout(1s), ::getpid()), Status::kNotPermitted,
           "which holds the agent");
    expect(refused_cgroup(cgroup_guard().timeout(1s), mounts->v2->point), Status::kNotPermitted,
           "is not guarded for anybody");
  }
}

TEST_F(AgentAuthority, ACgroupThatHoldsTheAgent) {
  TestCgroup outer;
  TestCgroup inner = outer.child("inner");
  inner.add(agent_->pid());
  for (const TestCgroup* each : {&outer, &inner}) {
    expect(refused_cgroup(cgroup_guard().timeout(1s), each->path()), Status::kNotPermitted,
           "which holds the agent");
  }
  const auto mounts = sys::read_cgroup_mounts();
  ASSERT_TRUE(sys::write_file(mounts->v2->point + "/cgroup.procs", number(agent_->pid())));
  EXPECT_NE(attach_cgroup(cgroup_guard().timeout(1h), inner.path()), 0U) << "it has left";
}

TEST_F(AgentAuthority, TheAgentIsSparedWhereItWasMovedLater) {
  TestCgroup cgroup;
  const std::uint64_t id = attach_cgroup(cgroup_guard().timeout(500ms), cgroup.path());
  Sleeper other;
  cgroup.add(other.pid());
  cgroup.add(agent_->pid());
  EXPECT_EQ(other.wait(), SIGKILL);
  const auto step = event(id, PG_EVENT_STEP);
  ASSERT_TRUE(step) << "the agent lives";
  ASSERT_EQ(step->refused, 1U);
  EXPECT_EQ(step->refused_pids[0], static_cast<unsigned>(agent_->pid()));
  const auto mounts = sys::read_cgroup_mounts();
  ASSERT_TRUE(sys::write_file(mounts->v2->point + "/cgroup.procs", number(agent_->pid())));
}

TEST_F(AgentAuthority, CeilingsAndQuotasBindAllButRoot) {
  restart_agent(
      "[agent]\nmax_guards_per_uid = 2\n[ceiling]\ntimeout = \"1h\"\nmemory = \"1G\"\n"
      "scopes = [\"process\", \"tree\"]\n");
  const Peer mine = process_of(kUser);
  const auto good = process_guard().timeout(1h).memory(1 << 30);
  EXPECT_NE(attach(process_guard().timeout(2h), mine.pid()), 0U) << "root may";
  ask_as(kUser);
  expect(refused(Wanted(good).timeout(3601s), mine.pid()), Status::kNotPermitted,
         "may not set the limit timeout to 1h1s (permitted: up to 1h)");
  expect(refused(process_guard().timeout(1h), mine.pid()), Status::kNotPermitted,
         "may not leave out the limit memory: it has a ceiling (permitted: up to 1.0GiB)");
  expect(refused(thread_guard(mine.pid()).timeout(1h).memory(1 << 30), mine.pid()),
         Status::kNotPermitted, "scope thread is for root (permitted: process, tree)");
  const std::uint64_t first = attach(good, mine.pid());
  EXPECT_NE(attach(good, mine.pid()), 0U);
  expect(refused(good, mine.pid()), Status::kNotPermitted,
         "uid 65533 may not have one more guard: it has 2 (permitted: 2)");
  expect(set(first, PG_MEMORY, 2UL << 30), Status::kNotPermitted, "(permitted: up to 1.0GiB)");
  EXPECT_EQ(set(first, PG_MEMORY, 1UL << 29).status, Status::kOk) << "tighter is permitted";
  act(proto::Op::kRelease, first);
  EXPECT_NE(attach(good, mine.pid()), 0U) << "there is room again";
}

TEST_F(AgentAuthority, OthersGuardsAreNotToBeSeenOrChanged) {
  Sleeper target;
  const std::uint64_t roots = attach(process_guard().timeout(1h).name("roots"), target.pid());
  const Peer mine = process_of(kUser);
  ask_as(kUser);
  const std::uint64_t own = attach(process_guard().timeout(1h).name("mine"), mine.pid());
  ASSERT_EQ(list().size(), 1U);
  EXPECT_EQ(list()[0].guard.id, own);
  for (const auto op : {proto::Op::kShow, proto::Op::kPause, proto::Op::kResume,
                        proto::Op::kRelease, proto::Op::kProgress}) {
    expect(act(op, roots), Status::kNotPermitted, "of uid 0 (permitted: guards of one's own)");
  }
  expect(set(roots, PG_TIMEOUT, 1), Status::kNotPermitted, "of uid 0");
  for (const proto::EventBody& each : events()) {
    EXPECT_EQ(each.owner_uid, kUser);
  }
  EXPECT_TRUE(events(roots).empty());
  proto::Writer by_name(proto::Op::kRelease, client().request());
  proto::RefBody named;
  proto::put_text(named.name, "roots");
  by_name.add(named);
  const auto answer = client().call(by_name);
  ASSERT_TRUE(answer.ok());
  expect(proto::refusal(answer.value()), Status::kNotFound, "guard 'roots': no such guard");
  ask_as(0);
  EXPECT_EQ(list().size(), 2U);
  EXPECT_EQ(act(proto::Op::kRelease, own).status, Status::kOk) << "root may";
}

// After the end, too.
TEST_F(AgentAuthority, OthersEndedGuards) {
  const Peer mine = process_of(kUser);
  Sleeper target;
  ask_as(kUser);
  const std::uint64_t own = attach(process_guard().timeout(1h).name("job"), mine.pid());
  act(proto::Op::kRelease, own);
  ask_as(0);
  const std::uint64_t roots = attach(process_guard().timeout(1h).name("job"), target.pid());
  act(proto::Op::kRelease, roots);
  ask_as(kUser);
  expect(act(proto::Op::kShow, roots), Status::kNotPermitted, "of uid 0");
  ASSERT_EQ(list(true).size(), 1U);
  EXPECT_EQ(list(true)[0].guard.id, own);
  proto::Writer by_name(proto::Op::kShow, client().request());
  proto::RefBody named;
  proto::put_text(named.name, "job");
  by_name.add(named);
  const auto answer = client().call(by_name);
  ASSERT_TRUE(answer.ok());
  const auto shown = answer->one<proto::ShowBody>();
  ASSERT_TRUE(shown) << proto::refusal(answer.value()).text;
  EXPECT_EQ(shown->row.guard.id, own) << "the asker's own";
  EXPECT_TRUE(client().next().ok());
}

TEST_F(AgentAuthority, AnExceptionIsNoStepFromOutside) {
  Sleeper target;
  auto wanted = process_guard().timeout(1s);
  wanted.body.ladder[0].action = PG_ACTION_EXCEPTION;
  expect(refused(wanted, target.pid()), Status::kInvalid, "step 0 is an exception");
}

TEST_F(AgentAuthority, FromAnotherPidNamespaceADescriptorCountsANumberDoesNot) {
  const std::string socket = place_.socket;
  Peer peer([&](Script& line) {
    if (::unshare(CLONE_NEWPID) != 0) {
      ::_exit(99);
    }
    fork_orphan([&] {  // its init, to which its parent has no number
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      const pid_t target = fork_child(sleep_on);
      auto mine = proto::Client::connect(socket).value();
      proto::AttachBody body = process_guard().timeout(1h).body;
      body.pid = static_cast<std::uint32_t>(target);
      proto::Writer by_number(proto::Op::kAttach, mine.request());
      by_number.add(body);
      const auto refusal = proto::refusal(mine.call(by_number).value());
      line.say(static_cast<std::int64_t>(refusal.status));
      line.say(refusal.text.starts_with("root of another pid namespace may not name a target"));
      body.pid = 0;
      body.flags |= proto::kHasFd;
      const auto pidfd = sys::open_pidfd(target);
      const int fd = pidfd->get();
      proto::Writer by_fd(proto::Op::kAttach, mine.request());
      by_fd.add(body);
      const auto armed = mine.call(by_fd, std::span(&fd, 1))->one<proto::ArmedBody>();
      line.say(armed ? armed->pid : 0);
      line.say(target);
      sleep_on();
    });
    sleep_on();
  });
  EXPECT_EQ(peer.hear(), static_cast<std::int64_t>(Status::kNotPermitted));
  EXPECT_EQ(peer.hear(), 1);
  const auto pid = static_cast<pid_t>(peer.hear());
  const auto inside = static_cast<pid_t>(peer.hear());
  const auto status = sys::ProcRoot().status(pid);
  ASSERT_TRUE(status.ok()) << pid;
  ASSERT_EQ(status->ns_pids.size(), 2U);
  EXPECT_EQ(status->ns_pids[0], pid);
  EXPECT_EQ(status->ns_pids[1], inside) << "the process that was meant";
}

}  // namespace
}  // namespace procguard::test
