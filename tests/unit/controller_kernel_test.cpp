// SPDX-License-Identifier: Apache-2.0
// The kernel's own first step and what the controller makes of it.
#include "tests/support/controller_fixture.h"

namespace procguard::engine {
namespace {

using core::kMillisecond;
using test::Journal;
using test::kMiB;

class ControllerKernelTest : public test::ControllerFixture {
 protected:
  void guard_memory(const char* ladder = "INT:1s,TERM:1s,KILL") {
    core::GuardSpec made = spec(ladder);
    made.memory_bytes = 64 * kMiB;
    arm_and_start(made);
    source_.add_member(watch_, 43);
  }
  // The level rises and the kernel signals this member at once; user space reads it later.
  void crossing(pid_t pid) {
    source_.set_memory(watch_, 65 * kMiB);
    source_.kernel_acts(watch_, 0, pid);
    source_.member(watch_, pid).kernel_signalled[0] = true;
    clock_.advance(3 * kMillisecond);
  }
  void back_under() {
    source_.set_memory(watch_, 60 * kMiB);
    for (Member& member : source_.at(watch_).members) {
      member.kernel_signalled[0] = false;
    }
  }
};

TEST_F(ControllerKernelTest, KernelSignalNeedsASignalNoGraceAndEnforce) {
  struct {
    const char* ladder;
    core::Ns grace;
    pg_mode mode;
    std::uint32_t signal;
  } rows[] = {
      {"INT,KILL", 0, PG_MODE_ENFORCE, SIGINT},
      {"KILL", 0, PG_MODE_ENFORCE, SIGKILL},
      {"INT,KILL", 1, PG_MODE_ENFORCE, 0},
      {"INT,KILL", 0, PG_MODE_MONITOR, 0},
  };
  for (const auto& row : rows) {
    core::GuardSpec made = spec(row.ladder);
    made.memory_bytes = 64 * kMiB;
    made.memory_growth_bytes = 32 * kMiB;
    made.grace_ns = row.grace;
    made.mode = row.mode;
    arm_and_start(made);
    EXPECT_EQ(source_.at(watch_).thresholds.memory[0].kernel_signal, row.signal);
    EXPECT_EQ(source_.at(watch_).thresholds.memory[1].kernel_signal, row.signal);
    controller_.release(guard_);
  }
  core::GuardSpec made = spec();
  made.ladder = core::preset_ladder(core::Preset::kExceptionThenSignal, false);
  made.memory_bytes = 64 * kMiB;
  arm_and_start(made);
  EXPECT_EQ(source_.at(watch_).thresholds.memory[0].kernel_signal, 0u);
}

TEST_F(ControllerKernelTest, TheOthersGetTheStepToo) {
  guard_memory();
  const core::Ns at = clock_.now();
  crossing(43);
  controller_.on_source();
  EXPECT_EQ(journal_, (Journal{"take_over", "members", "42 INT", "42 CONT"}));
  EXPECT_EQ(sink_.words(), "armed over memory/0=sent");
  const test::CaptureSink::Told& step = sink_.told[2];
  EXPECT_EQ(step.event.by, static_cast<unsigned>(PG_BY_KERNEL));
  EXPECT_EQ(step.event.at_ns, at);
  EXPECT_EQ(step.event.due_ns, at);
  EXPECT_EQ(step.outcome.reached, (std::vector<pid_t>{43, 42}));
  run_for(1000);
  EXPECT_EQ(sent(), (Journal{"42 INT", "42 TERM", "43 TERM"}));
}

TEST_F(ControllerKernelTest, AnEpisodeIsHeardOnce) {
  guard_memory();
  crossing(43);
  controller_.on_source();
  source_.kernel_acts(watch_, 0, 42);  // raced with the take-over
  controller_.on_source();
  EXPECT_EQ(sink_.words(), "armed over memory/0=sent");
}

TEST_F(ControllerKernelTest, AnEpisodeIsHeardOnceThoughItIsOver) {
  guard_memory();
  crossing(43);
  controller_.on_source();
  source_.kernel_acts(watch_, 0, 42);
  back_under();
  controller_.on_source();
  EXPECT_EQ(sink_.words(), "armed over memory/0=sent back_under");
}

TEST_F(ControllerKernelTest, UserSpaceWasFirst) {
  guard_memory();
  source_.set_memory(watch_, 65 * kMiB);
  controller_.on_source();
  EXPECT_EQ(sink_.told[2].event.by, static_cast<unsigned>(PG_BY_CONTROLLER));
  clock_.advance(kMillisecond);
  source_.kernel_acts(watch_, 0, 43);
  controller_.on_source();
  EXPECT_EQ(sink_.words(), "armed over memory/0=sent");
  EXPECT_EQ(sent(), (Journal{"42 INT", "43 INT"}));
}

TEST_F(ControllerKernelTest, ThreeSpikesThreeSteps) {
  guard_memory();
  for (int i = 0; i < 3; ++i) {
    crossing(43);
    if (i == 1) {
      back_under();  // before anybody read it
      controller_.on_source();
    } else {
      controller_.on_source();
      back_under();
      controller_.on_source();
    }
    clock_.advance(100 * kMillisecond);
  }
  EXPECT_EQ(sink_.words(),
            "armed over memory/0=sent back_under over memory/0=sent back_under over memory/0=sent "
            "back_under");
}

TEST_F(ControllerKernelTest, ANewEpisodeWhoseBeginningNobodyRead) {
  guard_memory();
  crossing(43);
  controller_.on_source();
  clock_.advance(100 * kMillisecond);
  back_under();
  crossing(42);
  controller_.on_source();
  EXPECT_EQ(sink_.words(), "armed over memory/0=sent back_under over memory/0=sent");
  EXPECT_EQ(sent(), (Journal{"42 INT", "43 INT"})) << "each time the other one";
}

TEST_F(ControllerKernelTest, KilledByTheKernelAndNobodyLeft) {
  guard_memory("KILL");
  crossing(43);
  source_.remove_member(watch_, 42);
  source_.remove_member(watch_, 43);
  source_.set_memory(watch_, 0);
  controller_.on_source();
  EXPECT_EQ(sink_.words(), "armed over memory/0=sent target_exited");
  EXPECT_EQ(sink_.told[2].outcome.reached, std::vector<pid_t>{43});
  run_for(10);
  EXPECT_FALSE(controller_.busy());
}

TEST_F(ControllerKernelTest, AKillByTheKernelSweepsTheTree) {
  guard_memory("KILL");
  crossing(43);
  source_.remove_member(watch_, 43);
  controller_.on_source();
  EXPECT_EQ(sent(), Journal{"42 KILL"});
  EXPECT_TRUE(controller_.busy());
}

TEST_F(ControllerKernelTest, AMergedFirstStepIsTakenOverToo) {
  core::GuardSpec made = spec();
  made.memory_bytes = 64 * kMiB;
  made.timeout_ns = 300 * kMillisecond;
  arm_and_start(made);
  run_for(300);
  journal_.clear();
  clock_.advance(2 * kMillisecond);
  source_.set_memory(watch_, 65 * kMiB);
  controller_.on_source();
  EXPECT_EQ(sink_.words(), "armed armed timeout/0=sent over memory/0=merged");
  EXPECT_EQ(journal_, Journal{"take_over"});
  ASSERT_TRUE(sink_.told.back().has_outcome);
  EXPECT_EQ(sink_.told.back().outcome.result, PG_RESULT_MERGED);
}

TEST_F(ControllerKernelTest, BothMemoryLimitsAtOnceAreOneSignal) {
  core::GuardSpec made = spec();
  made.memory_bytes = 64 * kMiB;
  made.memory_growth_bytes = 64 * kMiB;
  arm_and_start(made);
  source_.set_memory(watch_, 65 * kMiB);
  controller_.on_source();
  EXPECT_EQ(sink_.words(), "armed armed over memory/0=sent over memory_growth/0=merged");
  EXPECT_EQ(sent(), Journal{"42 INT"});
}

}  // namespace
}  // namespace procguard::engine
