// SPDX-License-Identifier: Apache-2.0
// A controller that goes on with the guards of one that has died.
#include "tests/support/controller_fixture.h"

namespace procguard::test {
namespace {

class ControllerAdopt : public ControllerFixture {
 protected:
  // The first controller is gone: another one has the guard and its watch.
  void adopt() {
    journal_.clear();
    ASSERT_TRUE(next_.adopt(state(), target()).ok());
    next_.resume_all();
  }
  engine::Controller next_{source_, executor_, clock_, sink_};
};

TEST_F(ControllerAdopt, FollowsUpWhatTheKernelDidMeanwhile) {
  auto made = spec("KILL");
  made.memory_bytes = 64 * kMiB;
  arm_and_start(made);
  source_.add_member(watch_, kPid + 1);
  source_.at(watch_).levels.memory[0].kernel_signal = SIGKILL;
  source_.set_memory(watch_, 65 * kMiB);
  source_.kernel_acts(watch_, 0, kPid + 1);
  source_.remove_member(watch_, kPid + 1);
  source_.set_memory(watch_, 10 * kMiB);  // its memory is gone with it
  adopt();
  EXPECT_EQ(sent().size(), 1U) << "the member that the kernel did not reach";
}

TEST_F(ControllerAdopt, GoesOnSweepingWhatIsDoomed) {
  auto made = spec("KILL");
  made.timeout_ns = 3600 * core::kSecond;
  arm_and_start(made);
  source_.at(watch_).levels.doomed = true;
  adopt();
  EXPECT_TRUE(next_.busy());
}

TEST_F(ControllerAdopt, TellsTheFailsafeOfTheNearestGuardAlone) {
  auto made = spec("KILL");
  made.flags = PG_GUARD_FAILSAFE;
  made.memory_bytes = 64 * kMiB;
  arm_and_start(made);
  const std::uint64_t near = guard_;
  made.memory_bytes = 128 * kMiB;
  arm_and_start(made);
  engine::Levels& levels = source_.at(watch_).levels;
  levels.memory_peak_bytes = 200 * kMiB;
  levels.failsafe_acted_ns = clock_.now();
  levels.failsafe_resource = PG_MEMORY;
  ASSERT_TRUE(next_.adopt(*controller_.find(near), target()).ok());
  ASSERT_TRUE(next_.adopt(state(), target()).ok());
  next_.resume_all();
  EXPECT_EQ(next_.find(near)->limit[PG_MEMORY].phase, unsigned{PG_LIMIT_DONE});
  EXPECT_EQ(next_.find(guard_)->limit[PG_MEMORY].phase, unsigned{PG_LIMIT_WAITING});
}

// Whoever is in the cgroup by then would have it at the next gap.
TEST_F(ControllerAdopt, LeavesNoFailsafeThatHasActed) {
  auto made = spec("KILL");
  made.flags = PG_GUARD_FAILSAFE;
  made.timeout_ns = 10 * core::kSecond;
  arm_and_start(made);
  ASSERT_NE(source_.at(watch_).failsafe, engine::Failsafe{});
  clock_.advance(20 * core::kSecond);
  source_.at(watch_).levels.failsafe_acted_ns = clock_.now() - core::kSecond;
  source_.at(watch_).levels.failsafe_resource = PG_TIMEOUT;
  adopt();
  EXPECT_EQ(next_.find(guard_)->limit[PG_TIMEOUT].phase, unsigned{PG_LIMIT_DONE});
  EXPECT_EQ(source_.at(watch_).failsafe, engine::Failsafe{});
}

TEST_F(ControllerAdopt, AFailsafeByTheClockCanHaveBeenThatOfCpuTime) {
  auto made = spec("INT:10s,KILL");
  made.flags = PG_GUARD_FAILSAFE;
  made.cpu_ns = core::kSecond;
  arm_and_start(made);
  source_.set_cpu(watch_, core::kSecond + 1);
  controller_.on_source();
  ASSERT_EQ(state().limit[PG_CPU].next_step, 1U);
  clock_.advance(10 * core::kSecond);
  source_.at(watch_).levels.failsafe_acted_ns = clock_.now();
  source_.at(watch_).levels.failsafe_resource = PG_TIMEOUT;
  adopt();
  EXPECT_EQ(sink_.told.back().event.resource, static_cast<unsigned>(PG_CPU));
  EXPECT_EQ(next_.find(guard_)->limit[PG_CPU].phase, unsigned{PG_LIMIT_DONE});
}

}  // namespace
}  // namespace procguard::test
