// SPDX-License-Identifier: Apache-2.0
// The timeout table of the specification, row by row.
#include <gtest/gtest.h>

#include <csignal>

#include "core/guard.h"
#include "tests/support/guard_driver.h"

namespace procguard::core {
namespace {

using test::At;
using test::GuardDriver;

GuardSpec spec(Ns timeout_ms, Ns step_grace_ms = 1000, bool send_kill = false) {
  GuardSpec made;
  made.timeout_given = true;
  made.timeout_ns = timeout_ms * kMillisecond;
  made.step_grace_ns = step_grace_ms * kMillisecond;
  made.ladder = preset_ladder(Preset::kSignal, send_kill);
  return made;
}

struct Row {
  const char* name;
  GuardSpec spec;
  std::vector<At> script;
  Ns end_ms;
  const char* steps;
};

TEST(GuardTimeout, Table) {
  const Row rows[] = {
      {"step 0 at start + timeout", spec(300), {}, 300, "timeout/0@300"},
      {"nothing before", spec(300), {}, 299, ""},
      {"steps 1 and 2 a grace apart, then nothing",
       spec(300),
       {},
       1'000'000,
       "timeout/0@300 timeout/1@1300 timeout/2@2300"},
      {"progress starts anew", spec(300), {{299, Progress{}}}, 700, "timeout/0@599"},
      {"progress again and again",
       spec(300),
       {{200, Progress{}}, {400, Progress{}}, {600, Progress{}}},
       900,
       "timeout/0@900"},
      {"progress after step 0: ladder back to its foot",
       spec(300),
       {{500, Progress{}}},
       2000,
       "timeout/0@300 timeout/0@800 timeout/1@1800"},
      {"progress after step 1",
       spec(300),
       {{1400, Progress{}}},
       1700,
       "timeout/0@300 timeout/1@1300 timeout/0@1700"},
      {"progress after the last step does not revive it",
       spec(300),
       {{2300, Progress{}}, {2400, Progress{}}},
       1'000'000,
       "timeout/0@300 timeout/1@1300 timeout/2@2300"},
      {"timeout=0 fires at once", spec(0), {}, 0, "timeout/0@0"},
      {"no step begins after release", spec(300), {{300, Release{}}}, 10000, "timeout/0@300"},
      {"release before the deadline", spec(300), {{299, Release{}}}, 10000, ""},
      {"target gone mid-ladder", spec(300), {{400, TargetGone{}}}, 10000, "timeout/0@300"},
      {"a grace below 10 ms counts as 10 ms",
       spec(300, 1),
       {},
       1000,
       "timeout/0@300 timeout/1@310 timeout/2@320"},
      {"set: later",
       spec(300),
       {{100, SetLimit{PG_TIMEOUT, 500 * kMillisecond}}},
       500,
       "timeout/0@500"},
      {"set: earlier than now is due at once",
       spec(300),
       {{200, SetLimit{PG_TIMEOUT, 100 * kMillisecond}}},
       250,
       "timeout/0@200"},
      {"set: more time after step 0 takes the ladder back",
       spec(300),
       {{400, SetLimit{PG_TIMEOUT, 1000 * kMillisecond}}},
       1000,
       "timeout/0@300 timeout/0@1000"},
      {"set: still too little leaves the ladder alone",
       spec(300),
       {{400, SetLimit{PG_TIMEOUT, 350 * kMillisecond}}},
       1300,
       "timeout/0@300 timeout/1@1300"},
      {"set: 0 leaves it as it is",
       spec(300),
       {{100, SetLimit{PG_TIMEOUT, 0}}},
       300,
       "timeout/0@300"},
      {"levels are nothing to a timeout",
       spec(300),
       {{100, Level{PG_TIMEOUT, 1, 1}}, {200, Level{PG_MEMORY, 1, 1}}},
       299,
       ""},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.name);
    GuardDriver driver(row.spec);
    ASSERT_TRUE(driver.ok());
    driver.play(row.script);
    driver.run_to(row.end_ms);
    EXPECT_EQ(driver.steps(), row.steps);
  }
}

TEST(GuardTimeout, PresetsOnTheLadder) {
  struct {
    Preset preset;
    bool send_kill;
    std::vector<std::uint32_t> signals;  // 0 = exception
  } rows[] = {
      {Preset::kException, true, {0, 0, 0}},
      {Preset::kSignal, false, {SIGINT, SIGTERM, SIGTERM}},
      {Preset::kSignal, true, {SIGINT, SIGTERM, SIGKILL}},
      {Preset::kExceptionThenSignal, false, {0, SIGINT, SIGTERM}},
      {Preset::kExceptionThenSignal, true, {0, SIGINT, SIGKILL}},
  };
  for (const auto& row : rows) {
    GuardSpec made = spec(100);
    made.ladder = preset_ladder(row.preset, row.send_kill);
    GuardDriver driver(made);
    driver.run_to(100'000);
    ASSERT_EQ(driver.taken().size(), 3u);
    for (std::size_t i = 0; i < 3; ++i) {
      const TakeStep& step = driver.taken()[i];
      EXPECT_EQ(step.step.signal, row.signals[i]);
      EXPECT_EQ(step.step.action, row.signals[i] == 0 ? PG_ACTION_EXCEPTION : PG_ACTION_SIGNAL);
      EXPECT_EQ(step.index, i);
      EXPECT_EQ(step.last, i == 2);
      EXPECT_EQ(step.kernel_pid, 0u);
    }
  }
}

TEST(GuardTimeout, DefaultWaitIsFifteenSeconds) {
  GuardSpec made = spec(1000);
  made.step_grace_ns = 0;
  GuardDriver driver(made);
  driver.run_to(100'000);
  EXPECT_EQ(driver.steps(), "timeout/0@1000 timeout/1@16000 timeout/2@31000");
}

TEST(GuardTimeout, AStepsOwnWaitComesFirst) {
  GuardSpec made = spec(100);
  made.ladder = parse_ladder("INT:5s,TERM,HUP:1ms,KILL").value();
  GuardDriver driver(made);
  driver.run_to(100'000);
  EXPECT_EQ(driver.steps(), "timeout/0@100 timeout/1@5100 timeout/2@6100 timeout/3@6110");
}

TEST(GuardTimeout, LateTimers) {
  struct {
    const char* name;
    std::vector<Ns> stalls_ms;
    const char* steps;
  } rows[] = {
      {"a little late: the grid stays", {302}, "timeout/0@302 timeout/1@1300 timeout/2@2300"},
      {"a tenth of the wait late: the grid stays",
       {400},
       "timeout/0@400 timeout/1@1300 timeout/2@2300"},
      {"later: the target keeps its time to react",
       {900},
       "timeout/0@900 timeout/1@1900 timeout/2@2900"},
      {"many waits late: one step, not all of them",
       {50'000},
       "timeout/0@50000 timeout/1@51000 timeout/2@52000"},
      {"every timer late", {700, 2500}, "timeout/0@700 timeout/1@2500 timeout/2@3500"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.name);
    GuardDriver driver(spec(300));
    for (Ns ms : row.stalls_ms) {
      driver.stall_to(ms);
    }
    driver.run_to(100'000);
    EXPECT_EQ(driver.steps(), row.steps);
  }
}

TEST(GuardTimeout, DuplicatedAndEarlyTicksDoNothing) {
  GuardDriver driver(spec(300));
  for (Ns ms = 0; ms <= 3000; ++ms) {
    driver.stall_to(ms);
    driver.tick();
    driver.tick();
  }
  EXPECT_EQ(driver.steps(), "timeout/0@300 timeout/1@1300 timeout/2@2300");
}

TEST(GuardTimeout, HugeDurationsNeverCome) {
  for (Ns timeout : {UINT64_MAX / 2, UINT64_MAX - 1, UINT64_MAX}) {
    GuardSpec made = spec(1);
    made.timeout_ns = timeout;
    made.step_grace_ns = timeout;
    GuardDriver driver(made);
    driver.run_to(1'000'000'000);
    EXPECT_EQ(driver.steps(), "");
    driver.feed(Progress{});
    driver.run_to(2'000'000'000);
    EXPECT_EQ(driver.steps(), "");
  }
  GuardSpec made = spec(100);
  made.step_grace_ns = UINT64_MAX;
  GuardDriver driver(made);
  driver.run_to(1'000'000'000);
  EXPECT_EQ(driver.steps(), "timeout/0@100");
}

TEST(GuardTimeout, EventsTellTheStory) {
  GuardDriver driver(spec(300));
  driver.run_to(400);
  driver.feed(Progress{});
  driver.run_to(500);
  driver.feed(TargetGone{});
  driver.feed(Release{});
  driver.feed(TargetGone{});
  EXPECT_EQ(driver.events(), "armed back_under target_exited");
  const pg_event& step = driver.told()[1];
  ASSERT_EQ(step.kind, static_cast<unsigned>(PG_EVENT_STEP));
  EXPECT_EQ(step.limit, 300 * kMillisecond);
  EXPECT_EQ(step.observed, 300 * kMillisecond);
  EXPECT_EQ(step.due_ns, driver.origin() + 300 * kMillisecond);
  EXPECT_EQ(step.by, static_cast<unsigned>(PG_BY_CONTROLLER));
  EXPECT_EQ(driver.guard().phase, static_cast<unsigned>(PG_GUARD_ENDED));
  EXPECT_FALSE(active(driver.guard()));
  EXPECT_EQ(next_due(driver.guard()), kNever);
}

TEST(GuardTimeout, StateSaysIntentUntilTheAnswer) {
  pg_guard guard = make_guard(spec(0), 7).value();
  step(guard, Start{}, 1000);
  const Actions actions = step(guard, Tick{}, 1000);
  ASSERT_EQ(actions.size(), 1u);
  EXPECT_TRUE(std::holds_alternative<TakeStep>(actions[0]));
  EXPECT_EQ(guard.step_result, static_cast<unsigned>(PG_RESULT_INTENT));
  EXPECT_EQ(guard.step_resource, static_cast<unsigned>(PG_TIMEOUT));
  EXPECT_EQ(guard.step_index, 0u);
  EXPECT_EQ(guard.step_at_ns, 1000u);
  EXPECT_TRUE(step(guard, Tick{}, 100 * kSecond).empty()) << "one step at a time";
  const Actions answer = step(guard, StepResult{.result = PG_RESULT_UNKNOWN}, 100 * kSecond);
  ASSERT_EQ(answer.size(), 1u);
  EXPECT_EQ(std::get<Emit>(answer[0]).event.result, static_cast<unsigned>(PG_RESULT_UNKNOWN));
  EXPECT_EQ(guard.step_result, static_cast<unsigned>(PG_RESULT_UNKNOWN));
  EXPECT_TRUE(step(guard, StepResult{.result = PG_RESULT_SENT}, 100 * kSecond).empty())
      << "nothing was asked";
}

TEST(GuardTimeout, NothingHappensBeforeTheStart) {
  pg_guard guard = make_guard(spec(1), 7).value();
  EXPECT_EQ(next_due(guard), kNever);
  EXPECT_TRUE(step(guard, Tick{}, 100 * kSecond).empty());
  EXPECT_TRUE(step(guard, Progress{}, 100 * kSecond).empty());
  EXPECT_TRUE(step(guard, SetLimit{PG_TIMEOUT, kSecond}, 100 * kSecond).empty());
  const Actions started = step(guard, Start{}, 200 * kSecond);
  ASSERT_EQ(started.size(), 1u);
  EXPECT_EQ(next_due(guard), 201 * kSecond);
  EXPECT_TRUE(step(guard, Start{}, 300 * kSecond).empty()) << "it starts once";
  EXPECT_EQ(next_due(guard), 201 * kSecond);
}

}  // namespace
}  // namespace procguard::core
