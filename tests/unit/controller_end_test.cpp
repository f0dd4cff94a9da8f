// SPDX-License-Identifier: Apache-2.0
// How guards end: targets that go, release, and the sweep that leaves no survivor.
#include <cerrno>

#include "tests/support/controller_fixture.h"

namespace procguard::engine {
namespace {

using core::kMillisecond;
using test::Journal;

class ControllerEndTest : public test::ControllerFixture {
 protected:
  static core::GuardSpec timed(const char* ladder = "INT:1s,TERM:1s,KILL") {
    core::GuardSpec made = spec(ladder);
    made.timeout_ns = 300 * kMillisecond;
    return made;
  }
};

TEST_F(ControllerEndTest, TheFirstProcessEndsAProcessGuard) {
  for (pg_scope scope : {PG_SCOPE_PROCESS, PG_SCOPE_THREAD}) {
    arm_and_start(timed(), scope);
    controller_.target_gone(guard_);
    EXPECT_EQ(state().phase, static_cast<unsigned>(PG_GUARD_ENDED));
    EXPECT_EQ(controller_.next_due(), core::kNever);
    run_for(10'000);
    EXPECT_EQ(sent(), Journal{});
    EXPECT_TRUE(controller_.levels(guard_).ok()) << "the report still wants them";
  }
  EXPECT_EQ(sink_.words(), "armed target_exited armed target_exited");
}

TEST_F(ControllerEndTest, ATreeLivesOnInItsMembers) {
  arm_and_start(timed());
  source_.add_member(watch_, 43);
  source_.remove_member(watch_, kPid);
  controller_.target_gone(guard_);
  EXPECT_EQ(state().phase, static_cast<unsigned>(PG_GUARD_ARMED));
  run_for(300);
  EXPECT_EQ(sent(), Journal{"43 INT"});
  source_.remove_member(watch_, 43);
  controller_.on_source();
  EXPECT_EQ(state().phase, static_cast<unsigned>(PG_GUARD_ENDED));
  EXPECT_EQ(sink_.words(), "armed timeout/0=sent target_exited");
  run_for(10'000);
  EXPECT_EQ(sent(), Journal{"43 INT"});
}

TEST_F(ControllerEndTest, ATreeThatIsEmptyWhenItsFirstProcessEndsIsOver) {
  arm_and_start(timed());
  source_.remove_member(watch_, kPid);
  controller_.target_gone(guard_);
  EXPECT_EQ(state().phase, static_cast<unsigned>(PG_GUARD_ENDED));
}

TEST_F(ControllerEndTest, AnEmptyCgroupStaysGuarded) {
  arm_and_start(timed(), PG_SCOPE_CGROUP);
  source_.add_member(watch_, 50);
  source_.remove_member(watch_, 50);
  controller_.on_source();
  controller_.target_gone(guard_);
  EXPECT_EQ(state().phase, static_cast<unsigned>(PG_GUARD_ARMED));
  source_.add_member(watch_, 51);
  run_for(300);
  EXPECT_EQ(sent(), Journal{"51 INT"});
}

TEST_F(ControllerEndTest, ReleaseEndsTheWatchAndEverything) {
  arm_and_start(timed());
  controller_.release(guard_);
  EXPECT_TRUE(source_.at(watch_).released);
  run_for(10'000);
  controller_.on_source();
  EXPECT_EQ(sent(), Journal{});
  EXPECT_EQ(sink_.words(), "armed released");
  EXPECT_FALSE(controller_.levels(guard_).ok());
  EXPECT_FALSE(controller_.usage(guard_).ok());
  EXPECT_FALSE(controller_.start(guard_, 1).ok());
  EXPECT_EQ(state().phase, static_cast<unsigned>(PG_GUARD_RELEASED)) << "the state stays";
  controller_.release(guard_);  // again: nothing
  EXPECT_EQ(std::count(journal_.begin(), journal_.end(), "release"), 1);
  controller_.forget(guard_);
  EXPECT_EQ(controller_.find(guard_), nullptr);
  controller_.release(guard_);
  controller_.target_gone(guard_);
}

TEST_F(ControllerEndTest, ReleaseAfterTheTargetIsGoneSaysNothingMore) {
  arm_and_start(timed(), PG_SCOPE_PROCESS);
  controller_.target_gone(guard_);
  controller_.forget(guard_);
  ASSERT_NE(controller_.find(guard_), nullptr) << "forget is for the released";
  controller_.release(guard_);
  EXPECT_TRUE(source_.at(watch_).released);
  EXPECT_EQ(sink_.words(), "armed target_exited");
}

TEST_F(ControllerEndTest, AGuardThatNeverBeganCanBeReleased) {
  arm(timed(), target());
  controller_.release(guard_);
  EXPECT_TRUE(source_.at(watch_).released);
  EXPECT_EQ(sink_.words(), "released");
}

TEST_F(ControllerEndTest, KillOnATreeSweepsUntilNobodyLives) {
  arm_and_start(timed("KILL"));
  source_.add_member(watch_, 43);
  run_for(300);
  EXPECT_TRUE(source_.at(watch_).doomed);
  EXPECT_TRUE(controller_.busy());
  EXPECT_EQ(sent(), (Journal{"42 KILL", "43 KILL"}));
  EXPECT_EQ(controller_.next_due(), clock_.now() + 1 * kMillisecond);
  journal_.clear();
  source_.remove_member(watch_, 42);
  source_.add_member(watch_, 44);  // born meanwhile
  run_for(1);
  EXPECT_EQ(sent(), (Journal{"43 KILL", "44 KILL"}));
  EXPECT_EQ(controller_.next_due(), clock_.now() + 2 * kMillisecond) << "then less often";
  source_.remove_member(watch_, 43);
  source_.remove_member(watch_, 44);
  run_for(2);
  EXPECT_FALSE(controller_.busy());
  EXPECT_EQ(state().phase, static_cast<unsigned>(PG_GUARD_ENDED));
  EXPECT_EQ(controller_.next_due(), core::kNever);
}

TEST_F(ControllerEndTest, SweepsComeAtMostEveryFiftyMilliseconds) {
  arm_and_start(timed("KILL"));
  run_for(300);
  std::vector<core::Ns> waits;
  for (int i = 0; i < 9; ++i) {
    waits.push_back((controller_.next_due() - clock_.now()) / kMillisecond);
    clock_.set(controller_.next_due());
    controller_.on_time();
  }
  EXPECT_EQ(waits, (std::vector<core::Ns>{1, 2, 4, 8, 16, 32, 50, 50, 50}));
  EXPECT_TRUE(controller_.busy()) << "as long as somebody lives";
}

TEST_F(ControllerEndTest, AReleasedTreeIsStillSwept) {
  arm_and_start(timed("KILL"));
  run_for(300);
  controller_.release(guard_);
  EXPECT_TRUE(controller_.busy());
  EXPECT_FALSE(source_.at(watch_).released) << "the sweep needs the list";
  run_for(20);
  EXPECT_TRUE(controller_.busy());
  source_.remove_member(watch_, kPid);
  run_for(60);
  EXPECT_FALSE(controller_.busy());
  EXPECT_TRUE(source_.at(watch_).released);
}

TEST_F(ControllerEndTest, ACgroupIsSweptToo) {
  arm_and_start(timed("KILL"), PG_SCOPE_CGROUP);
  source_.add_member(watch_, 50);
  run_for(300);
  EXPECT_EQ(sent(), Journal{"cgroup.kill /cg"});
  EXPECT_TRUE(controller_.busy());
  source_.remove_member(watch_, 50);
  run_for(10);
  EXPECT_FALSE(controller_.busy());
}

// One has become root by sudo, and lives; the cgroup's later processes are not to die for it.
TEST_F(ControllerEndTest, ACgroupWhereSomebodyIsRefusedIsNotDoomedForGood) {
  auto made = spec("KILL");
  made.timeout_ns = core::kSecond;
  arm_and_start(made, PG_SCOPE_CGROUP);
  source_.add_member(watch_, kPid);
  source_.add_member(watch_, kPid + 1);
  signaler_.cgroup_error = EPERM;
  signaler_.errors[kPid] = EPERM;
  clock_.advance(core::kSecond);
  controller_.on_time();
  EXPECT_TRUE(source_.at(watch_).doomed);
  source_.remove_member(watch_, kPid + 1);
  source_.at(watch_).levels.empty = false;
  run_for(1000);
  EXPECT_FALSE(controller_.busy());
  EXPECT_FALSE(source_.at(watch_).doomed);
}

TEST_F(ControllerEndTest, AListThatCannotBeMadeEndsTheSweepInTheEnd) {
  for (int error : {ENOENT, EIO}) {
    arm_and_start(timed("KILL"));
    run_for(300);
    source_.members_error = error;
    run_for(1);
    EXPECT_EQ(controller_.busy(), error == EIO) << "gone, or worth another try";
    run_for(5000);
    EXPECT_FALSE(controller_.busy());
    source_.members_error = 0;
    controller_.release(guard_);
  }
  EXPECT_EQ(sink_.words(), "armed timeout/0=sent released armed timeout/0=sent degraded released");
}

}  // namespace
}  // namespace procguard::engine
