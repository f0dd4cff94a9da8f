// SPDX-License-Identifier: Apache-2.0
// Who belongs to a target, on a fake /proc.
#include "engine/procfs_members.h"

#include <gtest/gtest.h>
#include <sys/epoll.h>

#include <cerrno>
#include <memory>

#include "tests/support/fake_proc.h"

namespace procguard::engine {
namespace {

using test::FakeProc;
using Claim = ProcfsMembers::Claim;

class ProcfsMembersTest : public ::testing::Test {
 protected:
  void SetUp() override {
    proc_.set({.pid = 150, .ppid = FakeProc::kSelf});  // the host's own business
    proc_.set({.pid = 200, .ppid = FakeProc::kSelf});
    epoll_ = sys::Fd(::epoll_create1(EPOLL_CLOEXEC));
  }
  ProcfsMembers& begin(pg_scope scope = PG_SCOPE_TREE) {
    options_ = proc_.options();
    members_ = std::make_unique<ProcfsMembers>(
        ProcfsMembers::Context{.options = options_,
                               .epoll = epoll_.get(),
                               .id = 1,
                               .claim_of = [this](pid_t) { return claim_; }},
        Target{.scope = scope, .pid = 200, .cgroup_path = ""});
    const auto began = members_->begin();
    EXPECT_TRUE(began) << began.error().message();
    return *members_;
  }
  std::vector<pid_t> live() {
    EXPECT_TRUE(members_->refresh());
    std::vector<pid_t> pids;
    for (const auto& [pid, member] : members_->live()) {
      pids.push_back(pid);
    }
    return pids;
  }
  Result<sys::Fd> open(pid_t pid, std::uint64_t start_ticks = 5000) {
    return members_->open(pid, sys::ticks_to_ns(start_ticks));
  }
  using Pids = std::vector<pid_t>;

  FakeProc proc_;
  ProcfsOptions options_;
  sys::Fd epoll_;
  Claim claim_ = Claim::kFree;
  std::unique_ptr<ProcfsMembers> members_;
};

TEST_F(ProcfsMembersTest, AProcessIsItselfAlone) {
  proc_.set({.pid = 201, .ppid = 200});
  begin(PG_SCOPE_PROCESS);
  EXPECT_EQ(live(), Pids{200});
  proc_.become_zombie(200);
  EXPECT_TRUE(live().empty());
  EXPECT_EQ(members_->take_ended().size(), 1U);
}

TEST_F(ProcfsMembersTest, ATreeGrowsFromItsRoot) {
  proc_.set({.pid = 201, .ppid = 200});
  begin();
  EXPECT_EQ(live(), (Pids{200, 201}));
  proc_.set({.pid = 202, .ppid = 201});
  proc_.set({.pid = 203, .ppid = 202});
  proc_.set({.pid = 160, .ppid = 150});  // not of the tree
  EXPECT_EQ(live(), (Pids{200, 201, 202, 203}));
  EXPECT_FALSE(members_->degraded());
  EXPECT_FALSE(members_->live().at(201).fresh);
}

TEST_F(ProcfsMembersTest, OrphansComeToTheHostAndStayMembers) {
  begin();
  proc_.set({.pid = 201, .ppid = 200});
  proc_.set({.pid = 202, .ppid = 201});
  EXPECT_EQ(live(), (Pids{200, 201, 202}));
  proc_.end(201);
  EXPECT_EQ(live(), (Pids{200, 202}));
  // One that was never seen below the root.
  proc_.set({.pid = 203, .ppid = FakeProc::kSelf, .start_ticks = 6100});
  proc_.set({.pid = 204, .ppid = 203, .start_ticks = 6100});
  EXPECT_EQ(live(), (Pids{200, 202, 203, 204}));
  EXPECT_TRUE(members_->live().at(203).fresh);
  proc_.become_zombie(200);
  EXPECT_EQ(live(), (Pids{202, 203, 204}));
}

TEST_F(ProcfsMembersTest, ChildrenTheHostHadBeforeAreNotOfTheTree) {
  begin();
  EXPECT_EQ(live(), Pids{200});
  EXPECT_EQ(proc_.opened, 1);  // 150 is not even opened
  // But its pid, once it is somebody else's, may be.
  proc_.end(150);
  proc_.set({.pid = 150, .ppid = FakeProc::kSelf, .start_ticks = 6200});
  EXPECT_EQ(live(), (Pids{150, 200}));
}

TEST_F(ProcfsMembersTest, WithoutASubreaperOrAboveAForeignRootTheTreeIsDegraded) {
  proc_.subreaper = false;
  begin();
  EXPECT_TRUE(members_->degraded());
  proc_.set({.pid = 203, .ppid = FakeProc::kSelf});
  EXPECT_EQ(live(), Pids{200});  // a child of the host is the host's then

  proc_.subreaper = true;
  proc_.at(200).ppid = 1;
  proc_.update(200);
  begin();
  EXPECT_TRUE(members_->degraded());

  proc_.at(200).ppid = 150;  // but a grandchild's orphans come here
  proc_.update(200);
  begin();
  EXPECT_FALSE(members_->degraded());
}

TEST_F(ProcfsMembersTest, AnOrphanOfAnotherTreeIsLeftToIt) {
  begin();
  proc_.set({.pid = 203, .ppid = FakeProc::kSelf});
  claim_ = Claim::kTaken;
  EXPECT_EQ(live(), Pids{200});
  EXPECT_FALSE(members_->degraded());
  claim_ = Claim::kUnclear;
  EXPECT_EQ(live(), Pids{200});
  EXPECT_TRUE(members_->degraded());
}

TEST_F(ProcfsMembersTest, AMemberIsOpenedByWhatHoldsItNotByItsNumber) {
  begin();
  EXPECT_TRUE(open(200));
  EXPECT_EQ(open(200, 5001).error().code(), ESRCH);
  EXPECT_EQ(open(150).error().code(), ESRCH);
  // The pid is given to another within the same clock tick: same number, same start time.
  proc_.end(200);
  proc_.set({.pid = 200, .ppid = 1});
  EXPECT_EQ(open(200).error().code(), ESRCH);
  EXPECT_TRUE(live().empty());
}

TEST_F(ProcfsMembersTest, WhereNoPidfdCouldBeHeldDescentIsProvenAtEachOpening) {
  proc_.unopenable = {201, 202};
  proc_.set({.pid = 201, .ppid = 200});
  proc_.set({.pid = 202, .ppid = 200});
  begin();
  EXPECT_EQ(live(), (Pids{200, 201, 202}));
  EXPECT_EQ(open(201).error().code(), EMFILE);
  proc_.unopenable = {};
  EXPECT_TRUE(open(201));
  // Recycled in the same tick, but by a stranger.
  proc_.end(202);
  proc_.set({.pid = 202, .ppid = 1});
  EXPECT_EQ(open(202).error().code(), ESRCH);
  proc_.end(201);
  EXPECT_EQ(open(201).error().code(), ESRCH);
}

TEST_F(ProcfsMembersTest, AChildThatIsAnothersByTheTimeItIsHeldIsNotAdopted) {
  begin();
  proc_.set({.pid = 201, .ppid = 200});
  // Listed as a child of the root, but its stat says otherwise by now.
  proc_.set({.pid = 201, .ppid = 1});
  proc_.tree().write("200/task/200/children", "201 ");
  EXPECT_EQ(live(), Pids{200});
}

// Who is killed leaves room for others to be forked into; who is stopped does not.
TEST_F(ProcfsMembersTest, ADoomedTreeIsStoppedAsItIsFound) {
  begin();
  proc_.set({.pid = 201, .ppid = 200});
  live();
  EXPECT_EQ(proc_.stopped, 0);
  members_->doom();
  proc_.set({.pid = 202, .ppid = 201});
  proc_.set({.pid = 203, .ppid = FakeProc::kSelf});
  EXPECT_EQ(live(), (Pids{200, 201, 202, 203}));
  EXPECT_EQ(proc_.stopped, 4);

  // Of one that is stopped all children are known. But not if only one of its threads is.
  for (const pid_t pid : {200, 201}) {
    proc_.at(pid).state = 'T';
  }
  proc_.at(201).threads = {{201, 0}, {205, 0}};
  proc_.update(200);
  proc_.update(201);
  live();
  proc_.set({.pid = 204, .ppid = 200});
  proc_.set({.pid = 206, .ppid = 201});
  EXPECT_EQ(live(), (Pids{200, 201, 202, 203, 206}));
}

TEST_F(ProcfsMembersTest, ZombiesAndTheHostItselfAreNoMembers) {
  proc_.set({.pid = 201, .ppid = 200});
  proc_.become_zombie(201);
  proc_.at(FakeProc::kSelf).ppid = 200;  // a guest guards its own ancestor
  proc_.update(FakeProc::kSelf);
  begin();
  for (const pid_t pid : live()) {
    EXPECT_NE(pid, 201);
    EXPECT_NE(pid, FakeProc::kSelf);
  }
}

TEST_F(ProcfsMembersTest, ALeaderThatExitedBeforeItsThreadsIsAlive) {
  proc_.at(200).state = 'Z';
  proc_.at(200).threads = {{200, 0}, {205, 0}};
  proc_.update(200);
  begin();
  EXPECT_EQ(live(), Pids{200});
}

TEST_F(ProcfsMembersTest, TheEndOfAHeldMemberIsTold) {
  begin();
  epoll_event event{};
  EXPECT_EQ(::epoll_wait(epoll_.get(), &event, 1, 0), 0);
  const auto copy = open(200);  // a copy somewhere must not keep it in the set
  proc_.become_zombie(200);
  ASSERT_EQ(::epoll_wait(epoll_.get(), &event, 1, 0), 1);
  EXPECT_EQ(event.data.u64, ProcfsMembers::event_data(1, 200));
  EXPECT_TRUE(live().empty());
  EXPECT_EQ(::epoll_wait(epoll_.get(), &event, 1, 0), 0);
  ASSERT_TRUE(copy);
}

}  // namespace
}  // namespace procguard::engine
