// SPDX-License-Identifier: Apache-2.0
// Random guards, random inputs, random lateness (seeded): what must hold always.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "core/guard.h"

namespace procguard::core {
namespace {

constexpr int kRuns = 3000;
constexpr int kInputs = 80;

// What the tables promise about one limit, kept apart from the machine's own state.
struct Promise {
  Ns earliest = 0;      // of step 0
  Ns last_step_at = 0;  // of the present climb
  Ns last_wait = 0;
  std::uint32_t next = 0;
  bool ignored = false;  // the last answer
  bool done = false;
};

class RandomGuard {
 public:
  explicit RandomGuard(std::uint64_t seed) : random_(seed) {
    spec_.step_grace_ns = pick({0, 1, 10 * kMillisecond, kSecond});
    spec_.grace_ns = pick({0, 1, 50 * kMillisecond, UINT64_MAX});
    spec_.timeout_given = chance(50);
    spec_.timeout_ns =
        spec_.timeout_given ? pick({0, 5 * kMillisecond, kSecond, UINT64_MAX / 2}) : 0;
    spec_.cpu_ns = pick({0, 100 * kMillisecond});
    spec_.memory_bytes = pick({0, 1000});
    spec_.memory_growth_bytes = pick({0, 500});
    spec_.ladder = random_ladder();
    if (!spec_.timeout_given && spec_.cpu_ns == 0 && spec_.memory_bytes == 0) {
      spec_.memory_growth_bytes = 500;
    }
    guard_ = make_guard(spec_, seed).value();
    feed(Start{.cpu_ns = 0, .rss_bytes = 200});
    promise_[PG_TIMEOUT].earliest = saturating_add(now_, spec_.timeout_ns);
  }

  void run() {
    for (int i = 0; i < kInputs && !::testing::Test::HasFailure(); ++i) {
      now_ += pick({0, 1, kMillisecond, 9 * kMillisecond, 200 * kMillisecond, 5 * kSecond});
      random_input();
      if (chance(90)) {
        settle();
      }
    }
    settle();
    EXPECT_TRUE(next_due(guard_) > now_);
  }

 private:
  std::uint64_t pick(std::initializer_list<std::uint64_t> values) {
    return *(values.begin() + random_() % values.size());
  }
  bool chance(unsigned percent) { return random_() % 100 < percent; }

  Ladder random_ladder() {
    Ladder ladder = preset_ladder(static_cast<Preset>(random_() % 3), chance(50));
    while (ladder.size() < PG_STEPS && chance(30)) {
      ladder.push_back({.action = PG_ACTION_SIGNAL, .signal = 2, .wait_ns = pick({0, kSecond})});
    }
    return ladder;
  }

  void random_input() {
    const pg_resource memory = chance(50) ? PG_MEMORY : PG_MEMORY_GROWTH;
    switch (random_() % 12) {
      case 0:
        feed(Progress{});
        return restart(PG_TIMEOUT, saturating_add(now_, spec_.timeout_ns));
      case 1:
      case 2:
        return go_over(memory);
      case 3:
      case 4:
        restart(memory, kNever);
        over_since_[memory] = 0;
        return feed(Level{memory, 100, 0});
      case 5:
        promise_[PG_CPU].earliest = std::min(promise_[PG_CPU].earliest, now_);
        return feed(Level{PG_CPU, spec_.cpu_ns, now_});
      case 6:
        return kernel_acts(memory);
      case 7:
        if (chance(10)) {
          chance(50) ? feed(TargetGone{}) : feed(Release{});
          over_ = true;
        }
        return;
      default:
        return feed(Tick{});
    }
  }

  void go_over(pg_resource memory) {
    if (over_since_[memory] == 0 || chance(20)) {
      begin_episode(memory, now_ - pick({0, 1, 5 * kMillisecond}));
    }
    feed(Level{memory, 5000, over_since_[memory]});
  }

  void begin_episode(pg_resource memory, Ns since) {
    if (since != over_since_[memory]) {  // the time is what tells episodes apart
      over_since_[memory] = since;
      restart(memory, saturating_add(since, spec_.grace_ns));
    }
  }

  void kernel_acts(pg_resource memory) {
    if (spec_.grace_ns != 0 || spec_.ladder[0].action != PG_ACTION_SIGNAL) {
      return;
    }
    begin_episode(memory, now_);
    feed(KernelActed{memory, 7, now_, 5000, now_});
  }

  void restart(pg_resource resource, Ns earliest) {
    if (!promise_[resource].done) {
      promise_[resource] = {.earliest = earliest};
    }
  }

  // Ticks until nothing is due.
  void settle() {
    for (int i = 0; next_due(guard_) <= now_; ++i) {
      ASSERT_LT(i, 100) << "it never settles";
      feed(Tick{});
    }
  }

  void feed(const Input& input) {
    const Actions actions = step(guard_, input, now_);
    ASSERT_LE(std::count_if(actions.begin(), actions.end(),
                            [](const Action& a) { return std::holds_alternative<TakeStep>(a); }),
              1);
    for (const Action& action : actions) {
      if (const auto* emitted = std::get_if<Emit>(&action)) {
        check_merged(emitted->event);
      }
    }
    for (const Action& action : actions) {
      if (const auto* taken = std::get_if<TakeStep>(&action)) {
        check(taken->resource, taken->index, taken->due_ns);
        const pg_result result = chance(10) ? PG_RESULT_IGNORED : PG_RESULT_SENT;
        promise_[taken->resource].ignored = result == PG_RESULT_IGNORED;
        EXPECT_EQ(step(guard_, StepResult{.result = result}, now_).size(), 1u);
      }
    }
  }

  void check_merged(const pg_event& event) {
    if (event.kind == PG_EVENT_STEP && event.result == PG_RESULT_MERGED) {
      check(event.resource, event.step, event.due_ns);
      promise_[event.resource].ignored = false;
    }
  }

  void check(std::uint32_t resource, std::uint32_t index, Ns due) {
    Promise& promise = promise_[resource];
    EXPECT_FALSE(over_) << "a step after the end";
    EXPECT_FALSE(promise.done) << "a step after the last";
    EXPECT_LE(due, now_) << "a step before it was due";
    EXPECT_EQ(index, promise.next) << resource_name(resource);
    if (index == 0) {
      EXPECT_LE(promise.earliest, now_) << "step 0 too early: " << resource_name(resource);
    } else if (!promise.ignored) {
      EXPECT_GE(now_ - promise.last_step_at, promise.last_wait - promise.last_wait / 10)
          << "steps too close";
    }
    const pg_limit& limit = guard_.limit[resource];
    const Ns own = guard_.ladder[index].wait_ns;
    promise.last_wait = own != 0 ? own : limit.step_grace_ns;
    EXPECT_GE(promise.last_wait, kMinStepGrace);
    promise.last_step_at = now_;
    promise.next = index + 1;
    promise.done = promise.next == guard_.steps;
  }

  std::mt19937_64 random_;
  GuardSpec spec_;
  pg_guard guard_{};
  Ns now_ = 1000 * kSecond;
  Promise promise_[PG_RESOURCES] = {
      {.earliest = 0}, {.earliest = kNever}, {.earliest = kNever}, {.earliest = kNever}};
  Ns over_since_[PG_RESOURCES] = {};
  bool over_ = false;
};

TEST(GuardProperty, HoldsForRandomLives) {
  for (std::uint64_t seed = 1; seed <= kRuns && !HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomGuard(seed).run();
  }
}

}  // namespace
}  // namespace procguard::core
