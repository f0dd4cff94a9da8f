// SPDX-License-Identifier: Apache-2.0
// A controller died; another one goes on with its guards. And what the kernel did meanwhile.
#include <gtest/gtest.h>

#include <csignal>
#include <variant>

#include "core/guard.h"

namespace procguard::core {
namespace {

pg_guard guard_of(const char* ladder, std::uint32_t flags = 0) {
  GuardSpec spec;
  spec.timeout_ns = kSecond;
  spec.memory_bytes = 1000;
  spec.ladder = parse_ladder(ladder).value();
  spec.flags = flags;
  pg_guard guard = make_guard(spec, 1).value();
  step(guard, Start{}, kSecond);
  return guard;
}

template <typename Kind>
std::vector<Kind> of_kind(const Actions& actions) {
  std::vector<Kind> found;
  for (const Action& action : actions) {
    if (const auto* each = std::get_if<Kind>(&action)) {
      found.push_back(*each);
    }
  }
  return found;
}

TEST(GuardAdopt, NothingToSayWithoutAnIntent) {
  pg_guard guard = guard_of("TERM:1s,KILL");
  EXPECT_TRUE(step(guard, Adopt{}, 2 * kSecond).empty());
}

// What became of the step is not known: a SIGKILL is sent again, what a program may catch is not.
TEST(GuardAdopt, AnIntentWithoutResultIsUnknownAndOnlyAKillIsRepeated) {
  struct {
    const char* ladder;
    std::uint32_t repeated;
  } rows[] = {{"TERM:1s,KILL", 0}, {"KILL", SIGKILL}};
  for (const auto& row : rows) {
    pg_guard guard = guard_of(row.ladder);
    ASSERT_EQ(of_kind<TakeStep>(step(guard, Tick{}, 2 * kSecond)).size(), 1U);
    ASSERT_EQ(guard.step_result, static_cast<unsigned>(PG_RESULT_INTENT));
    pg_guard found = guard;  // as the map has it
    const Actions actions = step(found, Adopt{}, 3 * kSecond);
    const auto told = of_kind<Emit>(actions);
    ASSERT_EQ(told.size(), 1U) << row.ladder;
    EXPECT_EQ(told[0].event.result, static_cast<unsigned>(PG_RESULT_UNKNOWN));
    const auto steps = of_kind<TakeStep>(actions);
    ASSERT_EQ(steps.size(), row.repeated == 0 ? 0U : 1U) << row.ladder;
    if (row.repeated != 0) {
      EXPECT_EQ(steps[0].step.signal, row.repeated);
      EXPECT_EQ(steps[0].index, 0U);
      const Actions result = step(found, StepResult{.result = PG_RESULT_SENT}, 3 * kSecond);
      EXPECT_EQ(of_kind<Emit>(result).size(), 1U);
    }
    EXPECT_TRUE(of_kind<TakeStep>(step(found, Adopt{}, 4 * kSecond)).empty()) << "once";
  }
}

TEST(GuardAdopt, TheLadderGoesOnWhereItWas) {
  pg_guard guard = guard_of("INT:1s,TERM:1s,KILL");
  step(guard, Tick{}, 2 * kSecond);
  step(guard, StepResult{.result = PG_RESULT_SENT}, 2 * kSecond);
  step(guard, Adopt{}, 2500 * kMillisecond);
  EXPECT_EQ(next_due(guard), 3 * kSecond);
  const auto steps = of_kind<TakeStep>(step(guard, Tick{}, 3 * kSecond));
  ASSERT_EQ(steps.size(), 1U);
  EXPECT_EQ(steps[0].step.signal, static_cast<unsigned>(SIGTERM));
}

TEST(GuardAdopt, TheKernelsFailsafeStepIsTheLastOne) {
  pg_guard guard = guard_of("INT:1s,TERM:1s,KILL", PG_GUARD_FAILSAFE);
  const auto told = of_kind<Emit>(
      step(guard, FailsafeActed{.resource = PG_MEMORY, .pid = 7, .at_ns = 1500, .value = 1200},
           2 * kSecond));
  ASSERT_EQ(told.size(), 1U);
  EXPECT_EQ(told[0].event.kind, static_cast<unsigned>(PG_EVENT_STEP));
  EXPECT_EQ(told[0].event.step, 2U);
  EXPECT_EQ(told[0].event.signal, static_cast<unsigned>(SIGKILL));
  EXPECT_EQ(told[0].event.by, static_cast<unsigned>(PG_BY_KERNEL));
  EXPECT_EQ(told[0].event.observed, 1200U);
  EXPECT_EQ(guard.limit[PG_MEMORY].phase, static_cast<unsigned>(PG_LIMIT_DONE));
  EXPECT_EQ(guard.limit[PG_TIMEOUT].phase, static_cast<unsigned>(PG_LIMIT_WAITING));
  EXPECT_TRUE(of_kind<Emit>(step(guard, FailsafeActed{.resource = PG_MEMORY}, 2 * kSecond)).empty())
      << "once";
}

TEST(GuardAdopt, WhenTheLastStepWillBeDue) {
  pg_guard guard = guard_of("INT:1s,TERM:2s,KILL");
  EXPECT_EQ(last_step_due(guard, PG_TIMEOUT), 5 * kSecond);
  EXPECT_EQ(last_step_due(guard, PG_MEMORY), kNever);
  EXPECT_EQ(last_step_due(guard, PG_CPU), kNever);
  step(guard, Tick{}, 2 * kSecond);
  step(guard, StepResult{.result = PG_RESULT_SENT}, 2 * kSecond);
  EXPECT_EQ(last_step_due(guard, PG_TIMEOUT), 5 * kSecond);
  step(guard, Pause{}, 2 * kSecond);
  EXPECT_EQ(last_step_due(guard, PG_TIMEOUT), kNever);
}

}  // namespace
}  // namespace procguard::core
