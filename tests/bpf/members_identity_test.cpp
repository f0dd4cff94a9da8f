// SPDX-License-Identifier: Apache-2.0
// Who is a member, by identity: a number alone names nobody. And what the narrow scopes take in.
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string>
#include <thread>
#include <vector>

#include "sys/pidfd.h"
#include "tests/bpf/watched.h"

namespace procguard::test {
namespace {

class MembersIdentity : public Watched {};

// A process that makes children when told: told 0 it forks one with any pid, told N one with pid N.
// Says the pid. Told -N it kills child N, waits for it and says so.
Peer maker() {
  return Peer([](Script& line) {
    for (;;) {
      const std::int64_t word = line.hear();
      if (word < 0) {
        ::kill(static_cast<pid_t>(-word), SIGKILL);
        ::waitpid(static_cast<pid_t>(-word), nullptr, 0);
        line.say();
        continue;
      }
      pid_t pid = -1;
      for (int tries = 0; tries < 5000; ++tries) {  // a dead pid is free after an RCU grace period
        pid = clone_child(0, sleep_on, static_cast<pid_t>(word));
        if (pid >= 0 || errno != EEXIST) {
          break;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      line.say(pid);
    }
  });
}

int code_of(const Result<sys::Fd>& result) {
  return result ? 0 : result.error().code();
}

class RecycledPid : public MembersIdentity {
 protected:
  engine::Member member_of(engine::WatchId id, pid_t pid) {
    const auto members = source().members(id);
    for (const engine::Member& member : members.value()) {
      if (member.pid == pid) {
        return member;
      }
    }
    ADD_FAILURE() << pid << " is no member";
    return {};
  }
};

TEST_F(RecycledPid, OfAMemberByAStranger) {
  Peer member = maker();
  Peer stranger = maker();
  const auto id = watch_tree(member.pid());
  const auto pid = static_cast<pid_t>(member.ask());
  const engine::Member old = member_of(id, pid);
  EXPECT_EQ(code_of(source().open_member(id, old)), 0);
  member.ask(-pid);
  ASSERT_EQ(stranger.ask(pid), pid) << "the pid did not come back";
  EXPECT_FALSE(is_member(id, pid));
  EXPECT_EQ(levels(id).processes, 1U);
  EXPECT_FALSE(programs().process(static_cast<std::uint32_t>(pid)).has_value());
  EXPECT_EQ(code_of(source().open_member(id, old)), ESRCH);
  EXPECT_EQ(source().exec_time(id, pid), 0U);
}

TEST_F(RecycledPid, OfAMemberByAnotherMember) {
  Peer member = maker();
  const auto id = watch_tree(member.pid());
  const auto pid = static_cast<pid_t>(member.ask());
  const engine::Member old = member_of(id, pid);
  for (int again = 0; again < 5; ++again) {
    member.ask(-pid);
    ASSERT_EQ(member.ask(pid), pid) << "the pid did not come back";
    EXPECT_TRUE(is_member(id, pid)) << "it is unguarded";
    EXPECT_NE(member_of(id, pid).start_ns, old.start_ns);
    EXPECT_EQ(code_of(source().open_member(id, old)), ESRCH);
    EXPECT_EQ(code_of(source().open_member(id, member_of(id, pid))), 0);
    EXPECT_EQ(process(pid).threads, 1U);
    EXPECT_EQ(thread(pid).value_or(pg_thread{}).start_ns, member_of(id, pid).start_ns);
  }
}

TEST_F(RecycledPid, OfTheRoot) {
  Peer stranger = maker();
  engine::WatchId id = 0;
  pid_t pid = 0;
  engine::Member old;
  {
    Peer root = maker();
    pid = root.pid();
    id = watch_tree(pid);
    old = member_of(id, pid);
  }
  ASSERT_EQ(stranger.ask(pid), pid) << "the pid did not come back";
  EXPECT_TRUE(levels(id).empty);
  EXPECT_TRUE(member_pids(id).empty());
  EXPECT_EQ(code_of(source().open_member(id, old)), ESRCH);
}

// An exited process still has its pid, and a pidfd of it can be had.
TEST_F(MembersIdentity, ExitedAndNotReaped) {
  Peer peer([](Script& line) {
    line.say(fork_child(sleep_on));
    line.hear();
  });
  const auto child = static_cast<pid_t>(peer.hear());
  const auto id = watch_tree(peer.pid());
  auto members = source().members(id);
  ASSERT_EQ(members->size(), 2U);
  ::kill(child, SIGKILL);
  ASSERT_TRUE(wait_until([&] { return process_state(child) == 'Z'; }));
  for (const engine::Member& member : members.value()) {
    EXPECT_EQ(code_of(source().open_member(id, member)), member.pid == child ? ESRCH : 0);
  }
}

TEST_F(MembersIdentity, OpensWhatItNames) {
  Peer peer([](Script& line) { line.hear(); });
  const auto id = watch_process(peer.pid());
  const auto members = source().members(id);
  auto pidfd = source().open_member(id, members->front());
  ASSERT_TRUE(pidfd.ok());
  EXPECT_TRUE(sys::send_signal(pidfd->get(), SIGKILL).ok());
  EXPECT_EQ(peer.wait(), SIGKILL);
}

// ---- scopes -------------------------------------------------------------------------------------

TEST_F(MembersIdentity, ProcessScopeIsOneProcess) {
  Peer peer = maker();
  const auto id = watch_process(peer.pid());
  const auto child = static_cast<pid_t>(peer.ask());
  EXPECT_EQ(member_pids(id), std::vector<pid_t>{peer.pid()});
  const auto later = watch_tree(peer.pid());
  EXPECT_TRUE(is_member(later, child));
  const auto second = static_cast<pid_t>(peer.ask());
  EXPECT_TRUE(is_member(later, second));
  EXPECT_FALSE(is_member(id, second));
}

TEST_F(MembersIdentity, ThreadScopeNeedsTheThread) {
  Peer peer([](Script& line) { line.hear(); });
  Peer other([](Script& line) { line.hear(); });
  EXPECT_EQ(source().watch(target(PG_SCOPE_THREAD, peer.pid(), other.pid())).error().code(), ESRCH)
      << "another process's thread";
  EXPECT_EQ(source().watch(target(PG_SCOPE_THREAD, peer.pid(), 4'000'000)).error().code(), ESRCH);
  EXPECT_NE(watch_thread(peer.pid(), peer.pid()), 0U);
}

// A thread bears one watch: a second one may not look as if it were in force.
TEST_F(MembersIdentity, SecondWatchOnAThreadIsDegraded) {
  losses_are_expected();
  Peer peer([](Script& line) { line.hear(); });
  const auto first = watch_thread(peer.pid(), peer.pid());
  const auto second = watch_thread(peer.pid(), peer.pid());
  EXPECT_FALSE(levels(first).degraded);
  EXPECT_TRUE(levels(second).degraded);
  source().release(first);
  const auto third = watch_thread(peer.pid(), peer.pid());
  EXPECT_FALSE(levels(third).degraded) << "the first is no more";
}

TEST_F(MembersIdentity, NobodyThere) {
  pid_t gone = 0;
  {
    Peer peer([](Script& line) { line.hear(); });
    gone = peer.pid();
  }
  for (const pg_scope scope : {PG_SCOPE_PROCESS, PG_SCOPE_TREE, PG_SCOPE_THREAD}) {
    const auto made = source().watch(target(scope, gone, gone));
    ASSERT_FALSE(made.ok());
    EXPECT_EQ(made.error().code(), ESRCH);
  }
}

TEST_F(MembersIdentity, ReleasedHasNoMembers) {
  Peer peer = maker();
  const auto child = static_cast<pid_t>(peer.ask());
  const auto id = watch_tree(peer.pid());
  const auto members = source().members(id);
  source().release(id);
  EXPECT_FALSE(source().members(id).ok());
  EXPECT_EQ(code_of(source().open_member(id, members->front())), ENOENT);
  EXPECT_EQ(source().exec_time(id, child), 0U);
  const auto later = static_cast<pid_t>(peer.ask());
  const auto again = watch_tree(peer.pid());
  EXPECT_NE(again, id);
  EXPECT_EQ(levels(again).processes, 3U);
  EXPECT_TRUE(is_member(again, later));
}

}  // namespace
}  // namespace procguard::test
