// SPDX-License-Identifier: Apache-2.0
// The controller's inner half: levels into the machine, steps out of it, events to the world.
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <iterator>
#include <variant>

#include "engine/controller.h"
#include "engine/thresholds.h"

namespace procguard::engine {
namespace {

constexpr core::Ns kFirstSweep = 1 * core::kMillisecond;
constexpr core::Ns kLongestSweepWait = 50 * core::kMillisecond;
constexpr unsigned kSweepFailures = 20;  // in a row: about a second without a list of members

// Nobody is left where members were looked for.
bool means_gone(const Error& error) {
  return error.code() == ESRCH || error.code() == ENOENT || error.code() == ENODEV;
}

bool is_merged_memory_step(const pg_event& event) {
  return event.kind == PG_EVENT_STEP && event.result == PG_RESULT_MERGED &&
         (event.resource == PG_MEMORY || event.resource == PG_MEMORY_GROWTH);
}

}  // namespace

// Everything that is known now goes into the machine; every step that is due is taken.
void Controller::drive(Entry& entry) {
  // Levels first, also before a step that is due by the clock: an edge may be unread, and a target
  // that is under its limit again must not be signalled.
  read_levels(entry);
  for (core::Ns now = clock_.now(); core::next_due(entry.state) <= now; now = clock_.now()) {
    feed(entry, core::Tick{}, now);
  }
  refresh_thresholds(entry);
  reschedule(entry);
}

void Controller::read_levels(Entry& entry) {
  if (entry.watch == 0 || entry.released) {
    return;
  }
  auto levels = source_.levels(entry.watch);
  if (levels) {
    feed_levels(entry, levels.value());
  } else if (!means_gone(levels.error())) {
    degrade(entry, levels.error().code());
  }
}

void Controller::feed_levels(Entry& entry, const Levels& levels) {
  if (levels.degraded) {
    degrade(entry, 0);
  }
  // What the kernel did comes before the news that nobody survived it.
  feed_memory(entry, 0, levels);
  feed_memory(entry, 1, levels);
  if (levels.empty && entry.target.scope != PG_SCOPE_CGROUP) {
    feed(entry, core::TargetGone{}, clock_.now());
    return;
  }
  feed(entry,
       core::Level{
           .resource = PG_CPU, .value = levels.cpu_ns, .over_since_ns = levels.cpu.over_since_ns},
       clock_.now());
}

void Controller::feed_memory(Entry& entry, int slot, const Levels& levels) {
  const pg_resource resource = kMemorySlots[slot];
  const ThresholdState& state = levels.memory[slot];
  Entry::Seen& seen = entry.seen[slot];
  // The kernel may signal several members of an episode; the machine hears of it once.
  const bool acted = state.kernel_acted_ns != seen.acted_ns && state.episodes != seen.episode;
  seen = {.acted_ns = state.kernel_acted_ns, .episode = state.episodes};
  if (acted) {
    feed(entry,
         core::KernelActed{.resource = resource,
                           .pid = state.kernel_acted_pid,
                           .at_ns = state.kernel_acted_ns,
                           .value = levels.memory_bytes,
                           .over_since_ns = state.over_since_ns},
         clock_.now());
  }
  feed(
      entry,
      core::Level{
          .resource = resource, .value = levels.memory_bytes, .over_since_ns = state.over_since_ns},
      clock_.now());
}

void Controller::feed(Entry& entry, const core::Input& input, core::Ns now) {
  const core::Actions actions = core::step(entry.state, input, now);
  // The step first, the telling after: a log must not make a signal late.
  core::Actions results;
  Outcome outcome;
  for (const core::Action& action : actions) {
    if (const auto* step = std::get_if<core::TakeStep>(&action)) {
      outcome = take(entry, *step);
      results =
          core::step(entry.state,
                     core::StepResult{
                         .result = outcome.result, .error = outcome.error, .due_ns = step->due_ns},
                     clock_.now());
    }
  }
  for (const core::Action& action : actions) {
    if (const auto* told = std::get_if<core::Emit>(&action)) {
      const bool step = told->event.kind == PG_EVENT_STEP;
      const Outcome merged{.result = PG_RESULT_MERGED, .error = 0, .reached = {}, .refused = {}};
      if (is_merged_memory_step(told->event)) {
        source_.take_over(
            entry.watch);  // this episode's first step is taken: not by the kernel too
      }
      emit(entry, told->event, step ? &merged : nullptr);
    }
  }
  for (const core::Action& action : results) {
    emit(entry, std::get<core::Emit>(action).event, &outcome);
  }
}

Outcome Controller::take(Entry& entry, const core::TakeStep& step) {
  source_.publish(entry.state);  // the intent
  if (entry.state.mode == PG_MODE_MONITOR) {
    return {.result = PG_RESULT_DRY_RUN, .error = 0, .reached = {}, .refused = {}};
  }
  Outcome outcome = executor_.take(entry.target, entry.watch, step);
  const bool group = entry.target.scope == PG_SCOPE_TREE || entry.target.scope == PG_SCOPE_CGROUP;
  if (group && step.step.action == PG_ACTION_SIGNAL && step.step.signal == SIGKILL) {
    entry.sweep_wait = kFirstSweep;
    entry.sweep_at = core::saturating_add(clock_.now(), kFirstSweep);
    entry.sweep_failures = 0;
  }
  return outcome;
}

void Controller::sweep(Entry& entry) {
  auto alive = executor_.sweep(entry.target, entry.watch);
  if (alive) {
    entry.sweep_failures = 0;
  } else if (!means_gone(alive.error()) && ++entry.sweep_failures >= kSweepFailures) {
    degrade(entry, alive.error().code());
  }
  const bool over = alive ? alive.value() == 0
                          : means_gone(alive.error()) || entry.sweep_failures >= kSweepFailures;
  if (over) {
    end_sweep(entry);
    return;
  }
  entry.sweep_wait = std::min(entry.sweep_wait * 2, kLongestSweepWait);
  entry.sweep_at = core::saturating_add(clock_.now(), entry.sweep_wait);
}

void Controller::end_sweep(Entry& entry) {
  entry.sweep_at = core::kNever;
  if (entry.released) {
    release_watch(entry);
  }
}

void Controller::emit(Entry& entry, const pg_event& event, const Outcome* outcome) {
  source_.publish(entry.state);
  source_.trace(event);
  sink_.on_event(entry.state, event, outcome);
}

// Says once that this guard may not see everything.
void Controller::degrade(Entry& entry, int error) {
  if (entry.degraded) {
    return;
  }
  entry.degraded = true;
  pg_event event = core::make_event(entry.state, PG_EVENT_DEGRADED, PG_RESOURCES, clock_.now());
  event.error = static_cast<std::uint32_t>(error);
  emit(entry, event, nullptr);
}

void Controller::refresh_thresholds(Entry& entry) {
  const Thresholds wanted = thresholds_of(entry.state);
  if (entry.state.phase != PG_GUARD_ARMED || same(wanted, entry.in_force)) {
    return;
  }
  entry.in_force = wanted;
  if (auto set = source_.set_thresholds(entry.watch, wanted); !set) {
    degrade(entry, set.error().code());
  }
}

void Controller::release_watch(Entry& entry) {
  if (entry.watch == 0) {
    return;
  }
  watched_.erase(entry.watch);
  source_.release(entry.watch);
  entry.watch = 0;
}

void Controller::reschedule(Entry& entry) {
  const core::Ns next = std::min(core::next_due(entry.state), entry.sweep_at);
  if (next == entry.queued) {
    return;
  }
  deadlines_.erase({entry.queued, entry.state.id});
  entry.queued = next;
  if (next != core::kNever) {
    deadlines_.emplace(next, entry.state.id);
  }
}

}  // namespace procguard::engine
