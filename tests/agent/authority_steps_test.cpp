// SPDX-License-Identifier: Apache-2.0
// Authority at the step: a member that has become somebody else's since it was guarded is spared,
// and said to be.
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "sys/procfs.h"
#include "tests/agent/as_user.h"
#include "tests/support/test_cgroup.h"

namespace procguard::test {
namespace {

class AgentAuthoritySteps : public AsUser {
 protected:
  void SetUp() override {
    AsUser::SetUp();
    helper_ = place_.directory + "/become_root";
    std::filesystem::copy_file(program("become_root"), helper_);
    ASSERT_EQ(::chown(helper_.c_str(), 0, 0), 0);
    ASSERT_EQ(::chmod(helper_.c_str(), 04755), 0);
  }
  // Told, it becomes root by the set-uid helper.
  static void become_root_when_told(Script& line, const std::string& helper) {
    line.hear();
    ::execl(helper.c_str(), helper.c_str(), nullptr);
    ::_exit(99);
  }
  static bool is_root(pid_t pid) {
    return wait_until([pid] {
      const auto now = sys::ProcRoot().status(pid);
      return now && now->real_uid == 0 && now->saved_uid == 0;
    });
  }
  std::vector<proto::EventBody> steps(std::uint64_t id) {
    std::vector<proto::EventBody> all = events(id);
    std::erase_if(all, [](const auto& each) { return each.event.kind != PG_EVENT_STEP; });
    return all;
  }

  std::string helper_;
};

TEST_F(AgentAuthoritySteps, AProcessThatBecameRoot) {
  Peer target([this](Script& line) {
    become(kUser);
    line.say();
    become_root_when_told(line, helper_);
  });
  target.hear();
  ask_as(kUser);
  const std::uint64_t id = attach(process_guard().timeout(1h), target.pid());
  target.tell();
  ASSERT_TRUE(is_root(target.pid()));
  EXPECT_EQ(set(id, PG_TIMEOUT, 1).status, proto::Status::kOk);
  const auto step = event(id, PG_EVENT_STEP);
  ASSERT_TRUE(step);
  EXPECT_EQ(step->event.result, static_cast<unsigned>(PG_RESULT_REFUSED));
  ASSERT_EQ(step->refused, 1U);
  EXPECT_EQ(step->refused_pids[0], static_cast<unsigned>(target.pid()));
  EXPECT_NE(process_state(target.pid()), 'Z');
}

TEST_F(AgentAuthoritySteps, ItsSiblingsInTheTreeAreNotSpared) {
  Peer root([this](Script& line) {
    become(kUser);
    line.say(fork_child(sleep_on));
    line.say(fork_orphan([&] { become_root_when_told(line, helper_); }));
    sleep_on();
  });
  const auto ordinary = static_cast<pid_t>(root.hear());
  const auto risen = static_cast<pid_t>(root.hear());
  ask_as(kUser);
  const std::uint64_t id = attach(tree_guard().timeout(1h).ladder("TERM:300ms,KILL"), root.pid());
  root.tell();
  ASSERT_TRUE(is_root(risen));
  EXPECT_EQ(set(id, PG_TIMEOUT, 1).status, proto::Status::kOk);
  ASSERT_TRUE(wait_until([&] { return steps(id).size() == 2; }));
  const auto taken = steps(id);
  EXPECT_EQ(taken[0].reached, 2U);
  for (const proto::EventBody& step : taken) {
    ASSERT_EQ(step.refused, 1U);
    EXPECT_EQ(step.refused_pids[0], static_cast<unsigned>(risen));
  }
  EXPECT_EQ(taken[1].event.result, static_cast<unsigned>(PG_RESULT_REFUSED)) << "nobody else left";
  EXPECT_EQ(WTERMSIG(root.wait()), SIGTERM);
  EXPECT_TRUE(wait_until([&] { return process_state(ordinary) == 0; }));
  EXPECT_EQ(process_state(risen), 'S') << "lives";
  ASSERT_EQ(list().size(), 1U) << "as does the guard: the tree has a member";
  ::kill(risen, SIGKILL);
  EXPECT_TRUE(event(id, PG_EVENT_TARGET_EXITED));
}

TEST_F(AgentAuthoritySteps, RootInAUsersCgroup) {
  TestCgroup cgroup;
  ASSERT_EQ(::chown(cgroup.path().c_str(), kUser, kGroup), 0);
  Peer mine = process_of(kUser);
  Peer roots([](Script& line) {
    for (;;) {
      line.hear();
      line.say();
    }
  });
  cgroup.add(mine.pid());
  cgroup.add(roots.pid());
  ask_as(kUser);
  const std::uint64_t id = attach_cgroup(cgroup_guard().timeout(200ms), cgroup.path());
  EXPECT_EQ(WTERMSIG(mine.wait()), SIGKILL);
  const auto step = event(id, PG_EVENT_STEP);
  ASSERT_TRUE(step);
  EXPECT_EQ(step->event.result, static_cast<unsigned>(PG_RESULT_SENT));
  ASSERT_EQ(step->refused, 1U);
  EXPECT_EQ(step->refused_pids[0], static_cast<unsigned>(roots.pid()));
  for (int i = 0; i < 20; ++i) {
    roots.ask();  // where the kernel kills the doomed
  }
}

}  // namespace
}  // namespace procguard::test
