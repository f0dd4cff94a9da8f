// SPDX-License-Identifier: Apache-2.0
#include "client/entry.h"

#include "client/thread.h"

namespace procguard::client {

procguard_entry Entry::enter(Guard& of, Thread& by, void* for_user, core::Ns now,
                             std::uint64_t rss_bytes) {
  const std::uint64_t generation = generation_of(state.load(std::memory_order_relaxed));
  const bool memory = of.resource != PG_TIMEOUT;
  const std::uint64_t base = of.resource == PG_MEMORY_GROWTH ? rss_bytes : 0;
  client::hold(of);
  guard = &of;
  thread.store(&by, std::memory_order_relaxed);
  pull.store(of.pull, std::memory_order_relaxed);
  user = for_user;
  entered_ns = now;
  rss_at_entry = rss_bytes;
  signalled = false;
  suspended = false;
  overdue.store(false, std::memory_order_relaxed);
  signal_waits = false;
  since_ns.store(now, std::memory_order_relaxed);
  timeout_ns.store(memory ? core::kNever : of.limit, std::memory_order_relaxed);
  memory_bytes.store(
      memory ? core::saturating_add(of.begin.limit[of.resource].limit, base) : core::kNever,
      std::memory_order_relaxed);
  check_ns.store(of.check_interval, std::memory_order_relaxed);
  show();
  state.store(word(generation, kEntered), std::memory_order_seq_cst);
  return {this, generation};
}

void Entry::show_in(proto::Page& page) {
  const bool timeout = guard->resource == PG_TIMEOUT;
  const bool stepped = known == generation_of(state.load(std::memory_order_relaxed));
  ShownGuard line;
  line.tid = static_cast<std::uint32_t>(thread.load(std::memory_order_relaxed)->tid);
  line.resource = guard->resource;
  line.limit = guard->begin.limit[guard->resource].limit;
  line.base = timeout ? since_ns.load(std::memory_order_relaxed) : rss_at_entry;
  line.grace_ns = guard->begin.limit[guard->resource].grace_ns;
  line.guard = guard->id;
  line.next_step = stepped ? machine.limit[guard->resource].next_step : 0;
  line.steps = guard->begin.steps;
  shown.put(page, line);
}

// A holder takes a step, which is some system calls long. The bit tells it to wake us.
bool Entry::await(std::uint64_t generation) {
  while (!hold(generation)) {
    std::uint64_t seen = state.load(std::memory_order_acquire);
    if (!is_entered(seen, generation)) {
      return false;
    }
    if (phase_of(seen) == kHeld && state.compare_exchange_strong(seen, seen | kAwaited)) {
      state.wait(seen | kAwaited, std::memory_order_acquire);
    }
  }
  return true;
}

void Entry::let_go() {
  const std::uint64_t held = state.load(std::memory_order_relaxed);
  const std::uint64_t before =
      state.exchange(word(generation_of(held), kEntered), std::memory_order_acq_rel);
  if ((before & kAwaited) != 0) {
    state.notify_all();
  }
}

bool Entry::begin_leave(std::uint64_t generation) {
  std::uint64_t expected = word(generation, kEntered);
  const std::uint64_t leaving = word(generation, kLeaving);
  if (state.compare_exchange_strong(expected, leaving, std::memory_order_acq_rel)) {
    return true;
  }
  if (!await(generation)) {
    return false;
  }
  // Held by us. Another one that waits to leave finds it left.
  if ((state.exchange(leaving, std::memory_order_acq_rel) & kAwaited) != 0) {
    state.notify_all();
  }
  return true;
}

bool Entry::set_pending() {
  if (pending.exchange(1, std::memory_order_acq_rel) != 0) {
    return false;
  }
  if (pull.load(std::memory_order_relaxed)) {
    thread.load()->pending.fetch_add(1, std::memory_order_release);
  }
  return true;
}

bool Entry::clear_pending() {
  if (pending.load(std::memory_order_relaxed) == 0 ||
      pending.exchange(0, std::memory_order_acq_rel) == 0) {
    return false;
  }
  if (pull.load(std::memory_order_relaxed)) {
    thread.load()->pending.fetch_sub(1, std::memory_order_release);
  }
  return true;
}

bool Entry::withdraw() {
  if (!clear_pending()) {
    return false;
  }
  trip.withdrawn = 1;
  const std::lock_guard lock(trips_mutex());
  if (guard->last_trip.at_ns == trip.at_ns) {  // and not a later one, of another entry
    guard->last_trip.withdrawn = 1;
  }
  return true;
}

}  // namespace procguard::client
