// SPDX-License-Identifier: Apache-2.0
// Entry: one guard entered by one thread. A slot that is used again and again and never freed, so
// that a stale handle or a late look of the monitor finds a slot of another generation, not freed
// memory.
//
// Its state word is all the synchronisation there is:
//
//   kFree ──enter──► kEntered ──leave──► kLeaving ──► kFree of the next generation
//                     │    ▲
//                 hold│    │let_go      held: the monitor takes a step, or the thread takes up
//                     ▼    │            what is pending. Whoever leaves waits until it is let go;
//                     kHeld             so no step begins after leaving has begun to return.
//
// Fields that are not atomic are the enterer's while kFree, then read only; or the holder's.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>

#include "bpf/contract.h"
#include "client/guard.h"
#include "client/shown.h"
#include "core/clock.h"

namespace procguard::client {

struct Thread;

enum Phase : std::uint64_t { kFree = 0, kEntered = 1, kHeld = 2, kLeaving = 3 };
inline constexpr std::uint64_t kPhaseMask = 3;
inline constexpr std::uint64_t kAwaited = 4;  // with kHeld: somebody waits to leave
inline constexpr unsigned kGenerationShift = 3;

inline constexpr std::uint64_t word(std::uint64_t generation, Phase phase) {
  return (generation << kGenerationShift) | phase;
}

struct alignas(64) Entry {
  std::atomic<std::uint64_t> state{word(1, kFree)};
  std::atomic<std::uint64_t> since_ns{0};  // entered, or last progress
  // For the monitor's look without holding: kNever = no such limit. Relaxed: the looker holds the
  // entry before it acts on them.
  std::atomic<std::uint64_t> timeout_ns{core::kNever};
  std::atomic<std::uint64_t> memory_bytes{core::kNever};  // absolute
  std::atomic<std::uint64_t> check_ns{core::kNever};      // how stale a reading of it may be
  std::atomic<std::uint32_t> pending{0};                  // an exception waits to be taken up
  // Its time was over when the monitor looked last, which looks again at the next step: progress
  // makes it due before that and has to say so.
  std::atomic<bool> overdue{false};

  // Also read by those who report progress for another thread, without holding it.
  std::atomic<Thread*> thread{nullptr};
  std::atomic<bool> pull{false};

  Guard* guard = nullptr;
  void* user = nullptr;
  core::Ns entered_ns = 0;
  std::uint64_t rss_at_entry = 0;

  // The holder's.
  procguard_trip trip{};  // the exception that is pending
  bool signalled = false;
  bool suspended = false;     // belongs to no thread: exceptions are told, signals wait
  bool signal_waits = false;  // one does
  Shown shown;                // also the enterer's

  // The monitor's own, about the generation it knows.
  std::uint64_t known = 0;
  pg_guard machine{};
  core::Ns progress_seen = 0;
  std::atomic<core::Ns> due_ns{core::kNever};  // 0 from who resumes it
  core::Ns over_since_ns = 0;
  core::Ns nudge_ns = core::kNever;  // when a blocking system call is to be broken once more
  core::Ns nudge_wait = 0;

  // kFree -> kEntered, by the thread that it is for. `rss_bytes`: the process's now; memory guards'
  // only. The guard is held until the entry is left.
  procguard_entry enter(Guard& of, Thread& by, void* for_user, core::Ns now,
                        std::uint64_t rss_bytes);
  // Its line in the session's page, written or renewed; its enterer's, then its holder's.
  void show() {
    if (proto::Page* page = g_shown_page.load(std::memory_order_acquire); page != nullptr)
        [[unlikely]] {
      show_in(*page);
    }
  }
  // The timeout counts from now, the ladder from its foot. Any thread. True: tell the monitor.
  bool restart(core::Ns now) {
    since_ns.store(now, std::memory_order_release);
    return overdue.load(std::memory_order_acquire);
  }

  // kEntered -> kHeld. False: it is another generation, is held, or is being left.
  bool hold(std::uint64_t generation) {
    std::uint64_t expected = word(generation, kEntered);
    return state.compare_exchange_strong(expected, word(generation, kHeld),
                                         std::memory_order_acq_rel, std::memory_order_relaxed);
  }
  // hold(), and waits where it is held: for the entry's own thread, not the monitor.
  bool await(std::uint64_t generation);
  void let_go();
  // kEntered -> kLeaving, after waiting for a holder. False: it was left already.
  bool begin_leave(std::uint64_t generation);
  void end_leave(std::uint64_t generation) {
    state.store(word(generation + 1, kFree), std::memory_order_release);
  }
  // Sets or clears `pending`, and keeps the thread's count in step; true if it changed.
  bool set_pending();
  bool clear_pending();
  // Its holder's: the exception that is pending, if one is, is never taken up; `trip` and the
  // guard's last one say so.
  bool withdraw();

 private:
  void show_in(proto::Page& page);
};

inline std::uint64_t generation_of(std::uint64_t state) {
  return state >> kGenerationShift;
}
inline Phase phase_of(std::uint64_t state) {
  return static_cast<Phase>(state & kPhaseMask);
}
inline bool is_entered(std::uint64_t state, std::uint64_t generation) {
  return generation_of(state) == generation &&
         (phase_of(state) == kEntered || phase_of(state) == kHeld);
}

}  // namespace procguard::client
