// SPDX-License-Identifier: Apache-2.0
#include "client/patrol.h"

#include <algorithm>
#include <variant>

#include "client/thread.h"

namespace procguard::client {
namespace {

// A thread that holds its own entry takes up an exception: nanoseconds.
constexpr core::Ns kRetry = 100 * core::kMicrosecond;
// A store made on another CPU has long been seen by then.
constexpr core::Ns kStoresSeen = core::kMillisecond;
constexpr core::Ns kFirstNudge = 10 * core::kMillisecond;
constexpr core::Ns kLongestNudge = core::kSecond;

class Look {
 public:
  Look(Entry& entry, Stepper& stepper, const MemoryView& memory, core::Ns now)
      : entry_(entry), stepper_(stepper), memory_(memory), now_(now) {}

  // Without holding the entry: is there anything to do, and if not, when?
  bool is_due(std::uint64_t generation, Round& round);
  // Holding it.
  void act(std::uint64_t generation);

 private:
  bool known(std::uint64_t generation) const { return entry_.known == generation; }
  void learn(std::uint64_t generation);
  bool waits_for_thread() const;
  void feed_memory();
  void feed(const core::Input& input, core::Ns at);
  procguard_trip trip_of(const core::TakeStep& step) const;
  void nudge();

  Entry& entry_;
  Stepper& stepper_;
  const MemoryView& memory_;
  const core::Ns now_;
};

bool Look::is_due(std::uint64_t generation, Round& round) {
  const core::Ns since = entry_.since_ns.load(std::memory_order_acquire);
  core::Ns due = core::kNever;
  if (!known(generation)) {
    due = core::saturating_add(since, entry_.timeout_ns.load(std::memory_order_relaxed));
  } else if (since != entry_.progress_seen) {
    due = now_;
  } else {
    due = std::min(entry_.due_ns.load(std::memory_order_relaxed), entry_.nudge_ns);
  }
  const std::uint64_t limit = entry_.memory_bytes.load(std::memory_order_relaxed);
  if (limit != core::kNever) {
    if (memory_.bytes > limit) {
      round.nearest_below = std::max(round.nearest_below, limit);
    } else {
      round.nearest_above = std::min(round.nearest_above, limit);
    }
    round.check_interval_ns = std::min<core::Ns>(round.check_interval_ns,
                                                 entry_.check_ns.load(std::memory_order_relaxed));
    if (memory_.bytes > limit || (known(generation) && entry_.over_since_ns != 0)) {
      due = now_;
    }
  }
  if (due > now_) {
    round.next_ns = std::min(round.next_ns, due);
    return false;
  }
  return true;
}

void Look::learn(std::uint64_t generation) {
  entry_.machine = entry_.guard->begin;
  entry_.machine.tid = static_cast<__u32>(entry_.thread.load()->tid.load());
  core::step(entry_.machine, core::Start{.cpu_ns = 0, .rss_bytes = entry_.rss_at_entry},
             entry_.entered_ns);
  entry_.known = generation;
  entry_.progress_seen = entry_.entered_ns;
  entry_.over_since_ns = 0;
  entry_.nudge_ns = core::kNever;
}

void Look::act(std::uint64_t generation) {
  if (!known(generation)) {
    learn(generation);
  }
  const core::Ns since = entry_.since_ns.load(std::memory_order_acquire);
  if (since != entry_.progress_seen) {
    entry_.progress_seen = since;
    feed(core::Progress{}, since);
  }
  if (entry_.memory_bytes.load(std::memory_order_relaxed) != core::kNever && !waits_for_thread()) {
    feed_memory();
  }
  while (core::next_due(entry_.machine) <= now_ && !waits_for_thread()) {
    feed(core::Tick{}, now_);
  }
  const core::Ns due = core::next_due(entry_.machine);
  entry_.signal_waits = due <= now_;
  entry_.due_ns = entry_.signal_waits ? core::kNever : due;  // resuming wakes us
  entry_.overdue = core::active(entry_.machine) &&
                   entry_.due_ns > core::saturating_add(since, entry_.timeout_ns);
  nudge();
  entry_.show();
}

// A signal has nobody to go to while the entry is suspended.
bool Look::waits_for_thread() const {
  const pg_limit& limit = entry_.machine.limit[entry_.guard->resource];
  return entry_.suspended && core::active(entry_.machine) &&
         entry_.machine.ladder[limit.next_step].action == PG_ACTION_SIGNAL;
}

// The kernel's time of the crossing where it is this very limit's; else now: whoever is over a
// limit that was not the nearest has crossed the nearest just before.
void Look::feed_memory() {
  const std::uint64_t limit = entry_.memory_bytes.load(std::memory_order_relaxed);
  if (memory_.bytes < limit) {
    entry_.over_since_ns = 0;
  } else if (memory_.bytes > limit) {
    core::Ns since = entry_.over_since_ns != 0 ? entry_.over_since_ns : now_;
    for (const MemoryView::Crossing& crossing : memory_.crossings) {
      if (crossing.limit == limit && crossing.over_since_ns != 0) {
        since = std::max(crossing.over_since_ns, entry_.entered_ns);
      }
    }
    entry_.over_since_ns = since;
  }
  feed(core::Level{.resource = entry_.guard->resource,
                   .value = memory_.bytes,
                   .over_since_ns = entry_.over_since_ns},
       now_);
}

void Look::feed(const core::Input& input, core::Ns at) {
  core::Actions actions = core::step(entry_.machine, input, at);
  while (true) {
    const core::TakeStep* step = nullptr;
    for (const core::Action& action : actions) {
      step =
          std::holds_alternative<core::TakeStep>(action) ? &std::get<core::TakeStep>(action) : step;
    }
    if (step == nullptr) {
      return;
    }
    const procguard_trip trip = trip_of(*step);
    {
      const std::lock_guard lock(trips_mutex());
      entry_.guard->last_trip = trip;
    }
    const core::StepResult result{
        .result = stepper_.take(entry_, trip), .error = 0, .due_ns = step->due_ns};
    actions = core::step(entry_.machine, result, now_);
  }
}

procguard_trip Look::trip_of(const core::TakeStep& step) const {
  const pg_limit& limit = entry_.machine.limit[step.resource];
  procguard_trip trip{};
  trip.size = sizeof(trip);
  trip.guard = entry_.guard->id;
  trip.resource = step.resource;
  trip.step = step.index;
  trip.action = step.step.action;
  trip.signal = step.step.action == PG_ACTION_SIGNAL ? step.step.signal : 0;
  trip.last = step.last ? 1 : 0;
  trip.limit = entry_.guard->limit;
  trip.observed = step.resource == PG_TIMEOUT ? core::saturating_sub(now_, limit.base)
                                              : core::saturating_sub(memory_.bytes, limit.base);
  trip.elapsed_ns = core::saturating_sub(now_, entry_.entered_ns);
  trip.due_ns = step.due_ns;
  trip.at_ns = now_;
  return trip;
}

void Look::nudge() {
  if (!entry_.guard->break_syscalls || entry_.pending.load(std::memory_order_relaxed) == 0) {
    entry_.nudge_ns = core::kNever;
  } else if (entry_.nudge_ns == core::kNever) {  // the step itself did just now
    entry_.nudge_wait = kFirstNudge;
    entry_.nudge_ns = now_ + kFirstNudge;
  } else if (entry_.nudge_ns <= now_) {
    stepper_.nudge(entry_);
    entry_.nudge_wait = std::min(entry_.nudge_wait * 2, kLongestNudge);
    entry_.nudge_ns = now_ + entry_.nudge_wait;
  }
}

void look(Entry& entry, Stepper& stepper, const MemoryView& memory, core::Ns now, Round& round) {
  const std::uint64_t state = entry.state.load(std::memory_order_seq_cst);
  const std::uint64_t generation = generation_of(state);
  if (!is_entered(state, generation)) {
    return;
  }
  Look one(entry, stepper, memory, now);
  if (!one.is_due(generation, round)) {
    return;
  }
  if (!entry.hold(generation)) {
    // Held by its thread for a moment, or left: then there is nothing to come back for.
    round.next_ns = std::min(round.next_ns, now + kRetry);
    return;
  }
  const bool was_overdue = entry.overdue;
  one.act(generation);
  round.next_ns = std::min({round.next_ns, entry.due_ns.load(), entry.nudge_ns});
  if (entry.overdue && !was_overdue) {
    // Who made progress meanwhile may not have seen that he has to tell us.
    round.next_ns = std::min(round.next_ns, now + kStoresSeen);
  }
  entry.let_go();
}

}  // namespace

Round patrol(Thread* first, Stepper& stepper, const MemoryView& memory, core::Ns now) {
  Round round;
  for (Thread* thread = first; thread != nullptr; thread = thread->next.load()) {
    // Also those whose thread has ended: what was suspended there may go on in another.
    for (Chunk* chunk = &thread->first; chunk != nullptr; chunk = chunk->next.load()) {
      for (Entry& entry : chunk->entries) {
        look(entry, stepper, memory, now, round);
      }
    }
  }
  return round;
}

}  // namespace procguard::client
