// SPDX-License-Identifier: Apache-2.0
// Making guards, the cpu limit, several limits at once, answers to steps.
#include "core/guard.h"

#include <gtest/gtest.h>

#include <csignal>

#include "tests/support/guard_driver.h"

namespace procguard::core {
namespace {

using test::At;
using test::GuardDriver;

constexpr Ns kOrigin = 1000 * kSecond;
constexpr std::uint64_t kMiB = 1 << 20;

GuardSpec plain() {
  GuardSpec made;
  made.step_grace_ns = kSecond;
  made.ladder = preset_ladder(Preset::kSignal, true);
  return made;
}

Level cpu(Ns used_ms, Ns since_ms = 0) {
  return Level{PG_CPU, used_ms * kMillisecond,
               since_ms == 0 ? 0 : kOrigin + since_ms * kMillisecond};
}

TEST(MakeGuard, WritesTheWholeState) {
  GuardSpec made = plain();
  made.name = "nightly import";
  made.scope = PG_SCOPE_TREE;
  made.mode = PG_MODE_MONITOR;
  made.owner_uid = 1000;
  made.timeout_ns = 5 * kSecond;
  made.memory_bytes = 64 * kMiB;
  made.grace_ns = kSecond;
  made.ladder = parse_ladder("INT:1s,KILL").value();
  made.ladder[0].wait_ns = 3;
  const pg_guard guard = make_guard(made, 42).value();
  EXPECT_EQ(guard.abi, static_cast<unsigned>(PG_ABI));
  EXPECT_EQ(guard.size, sizeof(pg_guard));
  EXPECT_EQ(guard.id, 42u);
  EXPECT_STREQ(guard.name, "nightly import");
  EXPECT_EQ(guard.scope, static_cast<unsigned>(PG_SCOPE_TREE));
  EXPECT_EQ(guard.mode, static_cast<unsigned>(PG_MODE_MONITOR));
  EXPECT_EQ(guard.owner_uid, 1000u);
  EXPECT_EQ(guard.steps, 2u);
  EXPECT_EQ(guard.ladder[0].wait_ns, kMinStepGrace);
  EXPECT_EQ(guard.limit[PG_TIMEOUT].phase, static_cast<unsigned>(PG_LIMIT_WAITING));
  EXPECT_EQ(guard.limit[PG_TIMEOUT].grace_ns, 0u) << "grace is for memory";
  EXPECT_EQ(guard.limit[PG_MEMORY].grace_ns, kSecond);
  EXPECT_EQ(guard.limit[PG_CPU].phase, static_cast<unsigned>(PG_LIMIT_NONE));
  EXPECT_EQ(guard.limit[PG_MEMORY_GROWTH].phase, static_cast<unsigned>(PG_LIMIT_NONE));
}

TEST(MakeGuard, RefusesWhatCannotBeAGuard) {
  GuardSpec good = plain();
  good.timeout_ns = kSecond;
  ASSERT_TRUE(make_guard(good, 1).ok());
  struct {
    const char* says;
    void (*spoil)(GuardSpec&);
  } rows[] = {
      {"needs a limit", [](GuardSpec& s) { s.timeout_ns = 0; }},
      {"needs a scope", [](GuardSpec& s) { s.scope = PG_SCOPE_NONE; }},
      {"needs a scope", [](GuardSpec& s) { s.scope = static_cast<pg_scope>(7); }},
      {"longer than 47 bytes", [](GuardSpec& s) { s.name.assign(48, 'x'); }},
      {"1 to 8 steps, not 0", [](GuardSpec& s) { s.ladder.clear(); }},
      {"1 to 8 steps, not 9", [](GuardSpec& s) { s.ladder.resize(9, s.ladder[0]); }},
      {"neither", [](GuardSpec& s) { s.ladder[1].signal = 0; }},
      {"neither", [](GuardSpec& s) { s.ladder[1].signal = 65; }},
      {"neither", [](GuardSpec& s) { s.ladder[1].action = PG_ACTION_NONE; }},
  };
  for (const auto& row : rows) {
    GuardSpec spoiled = good;
    row.spoil(spoiled);
    auto guard = make_guard(spoiled, 1);
    ASSERT_FALSE(guard.ok()) << row.says;
    EXPECT_NE(guard.error().message().find(row.says), std::string::npos) << guard.error().message();
  }
  good.name.assign(47, 'x');
  EXPECT_TRUE(make_guard(good, 1).ok());
}

TEST(GuardCpu, Table) {
  struct {
    const char* name;
    std::vector<At> script;
    const char* steps;
  } rows[] = {
      {"within", {{100, cpu(499)}}, ""},
      {"reached, as the source says", {{600, cpu(500, 600)}}, "cpu/0@600 cpu/1@1600 cpu/2@2600"},
      {"reached, as the value says", {{700, cpu(500)}}, "cpu/0@700 cpu/1@1700 cpu/2@2700"},
      {"read late: the grid starts at the crossing, if not too late",
       {{650, cpu(550, 600)}},
       "cpu/0@650 cpu/1@1600 cpu/2@2600"},
      {"never recovers",
       {{600, cpu(500, 600)}, {800, cpu(499)}, {900, cpu(0)}},
       "cpu/0@600 cpu/1@1600 cpu/2@2600"},
      {"more levels change nothing",
       {{600, cpu(500, 600)}, {800, cpu(600, 700)}, {900, cpu(700, 600)}},
       "cpu/0@600 cpu/1@1600 cpu/2@2600"},
      {"progress changes nothing",
       {{600, cpu(500, 600)}, {700, Progress{}}},
       "cpu/0@600 cpu/1@1600 cpu/2@2600"},
      {"a higher limit in time",
       {{100, SetLimit{PG_CPU, 800 * kMillisecond}}, {600, cpu(500)}, {900, cpu(800, 900)}},
       "cpu/0@900 cpu/1@1900 cpu/2@2900"},
      {"a higher limit after step 0 takes the ladder back",
       {{600, cpu(500, 600)}, {700, SetLimit{PG_CPU, kSecond}}, {2000, cpu(1000, 2000)}},
       "cpu/0@600 cpu/0@2000 cpu/1@3000 cpu/2@4000"},
      {"a higher limit that is used up, too, does not",
       {{600, cpu(500, 600)}, {700, cpu(5000)}, {800, SetLimit{PG_CPU, kSecond}}},
       "cpu/0@600 cpu/1@1600 cpu/2@2600"},
      {"target gone", {{600, cpu(500, 600)}, {700, TargetGone{}}}, "cpu/0@600"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.name);
    GuardSpec made = plain();
    made.cpu_ns = 500 * kMillisecond;
    GuardDriver driver(made);
    driver.play(row.script);
    driver.run_to(1'000'000);
    EXPECT_EQ(driver.steps(), row.steps);
  }
}

TEST(GuardCpu, CountsFromEntry) {
  GuardSpec made = plain();
  made.cpu_ns = 500 * kMillisecond;
  GuardDriver driver(made, Start{.cpu_ns = 3 * kSecond, .rss_bytes = 0});
  driver.feed(cpu(3499));
  EXPECT_EQ(driver.steps(), "");
  driver.feed(cpu(3501));
  EXPECT_EQ(driver.steps(), "cpu/0@0");
  EXPECT_EQ(driver.limit(PG_CPU).observed, 501 * kMillisecond);
}

TEST(GuardLimits, EachHasItsOwnLadder) {
  GuardSpec made = plain();
  made.timeout_ns = 300 * kMillisecond;
  made.memory_bytes = 64 * kMiB;
  made.grace_ns = kSecond;
  GuardDriver driver(made);
  driver.run_to(100);
  driver.feed(Level{PG_MEMORY, 65 * kMiB, kOrigin + 100 * kMillisecond});
  driver.run_to(1150);
  driver.feed(Progress{});  // the timeout's alone
  driver.run_to(1200);
  driver.feed(Level{PG_MEMORY, 63 * kMiB, 0});  // memory's alone
  driver.run_to(2000);
  EXPECT_EQ(driver.steps(), "timeout/0@300 memory/0@1100 timeout/0@1450");
  EXPECT_EQ(driver.events(), "armed armed over back_under back_under");
}

TEST(GuardLimits, TheSameSignalWithinTenMillisecondsIsSentOnce) {
  struct {
    const char* name;
    Ns memory_ms;
    const char* steps;
  } rows[] = {
      {"at the same moment", 300, "timeout/0@300 memory/0@300=merged"},
      {"just after", 306, "timeout/0@300 memory/0@306=merged"},
      {"10 ms after", 310, "timeout/0@300 memory/0@310=merged"},
      {"11 ms after", 311, "timeout/0@300 memory/0@311"},
      {"just before", 295, "memory/0@295 timeout/0@300=merged"},
      {"long before", 280, "memory/0@280 timeout/0@300"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.name);
    GuardSpec made = plain();
    made.timeout_ns = 300 * kMillisecond;
    made.memory_bytes = 64 * kMiB;
    GuardDriver driver(made);
    driver.run_to(row.memory_ms);
    driver.feed(Level{PG_MEMORY, 65 * kMiB, driver.now()});
    driver.run_to(900);
    EXPECT_EQ(driver.steps(), row.steps);
  }
}

TEST(GuardLimits, AMergedStepIsAStepOfItsOwnLadder) {
  GuardSpec made = plain();
  made.timeout_ns = 300 * kMillisecond;
  made.cpu_ns = 300 * kMillisecond;
  made.memory_bytes = 64 * kMiB;
  GuardDriver driver(made);
  driver.run_to(300);
  driver.feed(Level{PG_MEMORY, 65 * kMiB, driver.now()});
  driver.feed(cpu(300, 300));
  driver.run_to(100'000);
  EXPECT_EQ(driver.steps(),
            "timeout/0@300 memory/0@300=merged cpu/0@300=merged "
            "timeout/1@1300 cpu/1@1300=merged memory/1@1300=merged "
            "timeout/2@2300 cpu/2@2300=merged memory/2@2300=merged");
  EXPECT_EQ(driver.taken().size(), 3u);
}

TEST(GuardLimits, WhatIsNotMerged) {
  GuardSpec made = plain();
  made.timeout_ns = 300 * kMillisecond;
  made.memory_bytes = 64 * kMiB;
  {
    SCOPED_TRACE("other signals");
    made.ladder = parse_ladder("INT:1s,TERM:1s,KILL").value();
    GuardDriver driver(made);
    driver.run_to(1299);
    driver.feed(Level{PG_MEMORY, 65 * kMiB, driver.now()});
    driver.run_to(1300);
    EXPECT_EQ(driver.steps(), "timeout/0@300 memory/0@1299 timeout/1@1300");
  }
  {
    SCOPED_TRACE("exceptions: each says which limit it is");
    made.ladder = preset_ladder(Preset::kException, false);
    GuardDriver driver(made);
    driver.run_to(300);
    driver.feed(Level{PG_MEMORY, 65 * kMiB, driver.now()});
    EXPECT_EQ(driver.steps(), "timeout/0@300 memory/0@300");
  }
  {
    SCOPED_TRACE("spikes of one limit");
    made.ladder = preset_ladder(Preset::kSignal, false);
    GuardDriver driver(made);
    for (Ns ms : {100, 102, 104}) {
      driver.run_to(ms);
      driver.feed(Level{PG_MEMORY, 65 * kMiB, driver.now()});
      driver.feed(Level{PG_MEMORY, 63 * kMiB, 0});
    }
    EXPECT_EQ(driver.steps(), "memory/0@100 memory/0@102 memory/0@104");
  }
  {
    SCOPED_TRACE("a signal that nobody got");
    GuardDriver driver(made);
    driver.answer(SIGINT, PG_RESULT_FAILED);
    driver.run_to(300);
    driver.feed(Level{PG_MEMORY, 65 * kMiB, driver.now()});
    EXPECT_EQ(driver.steps(), "timeout/0@300=failed memory/0@300=failed");
  }
}

TEST(GuardSteps, AnIgnoredStepMakesTheNextOneDueAtOnce) {
  GuardSpec made = plain();
  made.timeout_ns = 300 * kMillisecond;
  GuardDriver driver(made);
  driver.answer(SIGINT, PG_RESULT_IGNORED);
  driver.answer(SIGTERM, PG_RESULT_IGNORED);
  driver.run_to(100'000);
  EXPECT_EQ(driver.steps(), "timeout/0@300=ignored timeout/1@300=ignored timeout/2@300");
}

TEST(GuardSteps, IgnoredByTheLastStepEndsTheLadder) {
  GuardSpec made = plain();
  made.timeout_ns = 300 * kMillisecond;
  made.ladder = parse_ladder("INT").value();
  GuardDriver driver(made);
  driver.answer(SIGINT, PG_RESULT_IGNORED);
  driver.run_to(100'000);
  EXPECT_EQ(driver.steps(), "timeout/0@300=ignored");
  EXPECT_FALSE(active(driver.guard()));
}

TEST(GuardSteps, OtherAnswersLeaveTheLadderItsTime) {
  for (pg_result result : {PG_RESULT_FAILED, PG_RESULT_REFUSED, PG_RESULT_PENDING, PG_RESULT_GONE,
                           PG_RESULT_DRY_RUN}) {
    GuardSpec made = plain();
    made.timeout_ns = 300 * kMillisecond;
    made.mode = result == PG_RESULT_DRY_RUN ? PG_MODE_MONITOR : PG_MODE_ENFORCE;
    GuardDriver driver(made);
    driver.answer(SIGINT, result);
    driver.run_to(1300);
    EXPECT_EQ(driver.steps(),
              "timeout/0@300=" + std::string(result_name(result)) + " timeout/1@1300");
  }
}

TEST(GuardLimits, ALimitCanBeAdded) {
  GuardSpec made = plain();
  made.memory_bytes = 64 * kMiB;
  GuardDriver driver(made, Start{.cpu_ns = kSecond, .rss_bytes = 10 * kMiB});
  driver.run_to(200);
  driver.feed(SetLimit{PG_TIMEOUT, 300 * kMillisecond});
  driver.feed(SetLimit{PG_CPU, 100 * kMillisecond});
  driver.run_to(300);
  EXPECT_EQ(driver.steps(), "timeout/0@300") << "counted from the guard's start";
  driver.run_to(400);
  driver.feed(cpu(1099));
  EXPECT_EQ(driver.steps(), "timeout/0@300");
  driver.feed(cpu(1100));
  EXPECT_EQ(driver.steps(), "timeout/0@300 cpu/0@400");
  driver.feed(SetLimit{PG_RESOURCES, 1});  // hostile: no such limit
}

TEST(GuardLimits, ActiveWhileSomeLimitCanStep) {
  GuardSpec made = plain();
  made.timeout_ns = 300 * kMillisecond;
  GuardDriver driver(made);
  EXPECT_TRUE(active(driver.guard()));
  driver.run_to(2299);
  EXPECT_TRUE(active(driver.guard()));
  driver.run_to(2300);
  EXPECT_FALSE(active(driver.guard()));
  EXPECT_EQ(next_due(driver.guard()), kNever);
}

TEST(Names, AreTotal) {
  for (std::uint32_t i = 0; i < 300; ++i) {
    EXPECT_STRNE(resource_name(i), "");
    EXPECT_STRNE(result_name(i), "");
    EXPECT_STRNE(event_name(i), "");
    EXPECT_STRNE(by_name(i), "");
  }
  EXPECT_STREQ(resource_name(PG_MEMORY_GROWTH), "memory_growth");
  EXPECT_STREQ(result_name(PG_RESULT_DRY_RUN), "dry_run");
  EXPECT_STREQ(event_name(PG_EVENT_BACK_UNDER), "back_under");
  EXPECT_STREQ(by_name(PG_BY_KERNEL), "kernel");
}

}  // namespace
}  // namespace procguard::core
