// SPDX-License-Identifier: Apache-2.0
// What is in force on a watch, from the limits of any number of guards.
#include "engine/thresholds.h"

#include <gtest/gtest.h>

#include <csignal>

#include "core/ladder.h"

namespace procguard::engine {
namespace {

constexpr std::uint32_t kInt = SIGINT;

Demand demand_of(std::vector<Demand::Memory> memory) {
  Demand demand;
  demand.memory = std::move(memory);
  return demand;
}

Thresholds in_force(std::uint64_t first, std::uint64_t second) {
  Thresholds thresholds;
  thresholds.memory[0].bytes = first;
  thresholds.memory[1].bytes = second;
  return thresholds;
}

struct Row {
  const char* name;
  std::vector<Demand::Memory> wanted;  // guard, slot, bytes, signal, over
  std::uint64_t level;
  Thresholds before;
  std::uint64_t bytes[2];
  std::uint32_t signal[2];
};

TEST(Thresholds, Choose) {
  const Row rows[] = {
      {"nobody wants anything", {}, 50, in_force(10, 20), {0, 0}, {0, 0}},
      {"memory has the first slot", {{1, 0, 100, kInt, false}}, 50, {}, {100, 0}, {kInt, 0}},
      {"growth the second", {{1, 1, 100, kInt, false}}, 50, {}, {0, 100}, {0, kInt}},
      {"both of one guard",
       {{1, 0, 100, kInt, false}, {1, 1, 70, kInt, false}},
       50,
       {},
       {100, 70},
       {kInt, kInt}},
      {"the same limit of two guards is one",
       {{1, 0, 100, 0, false}, {2, 0, 100, kInt, false}},
       50,
       {},
       {100, 0},
       {kInt, 0}},
      {"two guards, two slots",
       {{1, 0, 100, kInt, false}, {2, 0, 200, kInt, false}},
       50,
       {},
       {100, 200},
       {kInt, kInt}},
      {"who has a slot keeps it",
       {{1, 0, 100, kInt, false}, {2, 0, 200, kInt, false}},
       50,
       in_force(200, 0),
       {200, 100},
       {kInt, kInt}},
      {"of more, the nearest above",
       {{1, 0, 300, kInt, false}, {2, 0, 100, kInt, false}, {3, 0, 200, kInt, false}},
       50,
       {},
       {100, 0},
       {kInt, 0}},
      {"and the nearest below: over already, no new step of the kernel's",
       {{1, 0, 300, kInt, false}, {2, 0, 100, kInt, true}, {3, 0, 200, kInt, true}},
       250,
       {},
       {300, 200},
       {kInt, 0}},
      {"its slot and its step stay where it had one",
       {{1, 0, 300, kInt, false}, {2, 0, 100, kInt, true}, {3, 0, 200, kInt, true}},
       250,
       in_force(200, 0),
       {200, 300},
       {kInt, kInt}},
      {"at the limit is not over",
       {{1, 0, 300, kInt, false}, {2, 0, 100, kInt, false}, {3, 0, 200, kInt, false}},
       200,
       {},
       {200, 100},
       {kInt, kInt}},
  };
  for (const Row& row : rows) {
    const Thresholds chosen = choose(demand_of(row.wanted), row.level, row.before);
    for (int slot = 0; slot < 2; ++slot) {
      EXPECT_EQ(chosen.memory[slot].bytes, row.bytes[slot]) << row.name << ", slot " << slot;
      EXPECT_EQ(chosen.memory[slot].kernel_signal, row.signal[slot])
          << row.name << ", slot " << slot;
    }
  }
}

pg_guard guard_of(std::uint64_t id, core::Ns timeout, std::uint64_t memory, core::Ns cpu,
                  std::uint32_t flags, const char* ladder = "INT:1s,KILL") {
  core::GuardSpec spec;
  spec.timeout_ns = timeout;
  spec.memory_bytes = memory;
  spec.cpu_ns = cpu;
  spec.flags = flags;
  spec.ladder = core::parse_ladder(ladder).value();
  pg_guard guard = core::make_guard(spec, id).value();
  core::step(guard, core::Start{}, core::kSecond);
  return guard;
}

TEST(Thresholds, TheLowestCpuLimitThatIsNotReached) {
  Demand demand;
  add_demand(guard_of(1, 0, 0, 500, 0), demand);
  add_demand(guard_of(2, 0, 0, 300, 0), demand);
  pg_guard over = guard_of(3, 0, 0, 100, 0);
  core::step(over, core::Level{.resource = PG_CPU, .value = 100, .over_since_ns = 1},
             core::kSecond);
  add_demand(over, demand);
  EXPECT_EQ(demand.cpu_ns, 300U);
}

TEST(Thresholds, FailsafeIsThatOfTheNearest) {
  Failsafe failsafe;
  add_failsafe(guard_of(1, 10 * core::kSecond, 100, 7, 0), failsafe);
  EXPECT_EQ(failsafe, Failsafe{}) << "nobody asked for it";
  add_failsafe(guard_of(2, 10 * core::kSecond, 200, 0, PG_GUARD_FAILSAFE), failsafe);
  add_failsafe(guard_of(3, 5 * core::kSecond, 300, 9, PG_GUARD_FAILSAFE, "KILL"), failsafe);
  EXPECT_EQ(failsafe.memory_bytes, 200U);
  EXPECT_EQ(failsafe.memory_signal, static_cast<std::uint32_t>(SIGKILL));
  EXPECT_EQ(failsafe.due_ns, 6 * core::kSecond) << "of guard 3, whose only step is the last";
  EXPECT_EQ(failsafe.due_signal, static_cast<std::uint32_t>(SIGKILL));
  EXPECT_EQ(failsafe.cpu_ns, 9U);
}

// A signal that may be ignored would be the watch's last one.
TEST(Thresholds, AFailsafesSigkillGoesFirst) {
  for (const bool near_first : {true, false}) {
    const pg_guard near = guard_of(1, 5 * core::kSecond, 100, 7, PG_GUARD_FAILSAFE, "TERM");
    const pg_guard kill = guard_of(2, 10 * core::kSecond, 200, 9, PG_GUARD_FAILSAFE, "KILL");
    Failsafe failsafe;
    add_failsafe(near_first ? near : kill, failsafe);
    add_failsafe(near_first ? kill : near, failsafe);
    EXPECT_EQ(failsafe.memory_bytes, 200U);
    EXPECT_EQ(failsafe.cpu_ns, 9U);
    EXPECT_EQ(failsafe.due_ns, 11 * core::kSecond);
    EXPECT_EQ(failsafe.due_signal, static_cast<std::uint32_t>(SIGKILL));
  }
}

TEST(Thresholds, AFailsafeWaitsForALadderThatHasBegun) {
  pg_guard guard = guard_of(1, 0, 100, 0, PG_GUARD_FAILSAFE, "INT:10s,TERM:5s,KILL");
  Failsafe failsafe;
  add_failsafe(guard, failsafe);
  EXPECT_EQ(failsafe.memory_grace_ns, 0U) << "at the crossing";
  core::step(guard,
             core::Level{.resource = PG_MEMORY, .value = 200, .over_since_ns = 2 * core::kSecond},
             2 * core::kSecond);
  core::step(guard, core::StepResult{.result = PG_RESULT_SENT}, 2 * core::kSecond);
  failsafe = {};
  add_failsafe(guard, failsafe);
  EXPECT_EQ(failsafe.memory_grace_ns, 15 * core::kSecond);

  pg_guard spent = guard_of(2, 0, 0, 100, PG_GUARD_FAILSAFE, "INT:10s,KILL");
  core::step(spent, core::Level{.resource = PG_CPU, .value = 100, .over_since_ns = core::kSecond},
             core::kSecond);
  core::step(spent, core::StepResult{.result = PG_RESULT_SENT}, core::kSecond);
  failsafe = {};
  add_failsafe(spent, failsafe);
  EXPECT_EQ(failsafe.cpu_ns, 0U);
  EXPECT_EQ(failsafe.due_ns, 11 * core::kSecond);
  EXPECT_EQ(timed_step_due(spent, PG_CPU), 11 * core::kSecond);
}

}  // namespace
}  // namespace procguard::engine
