// SPDX-License-Identifier: Apache-2.0
// Thread: what the library keeps of a thread that has entered guards: its entries. Records are used
// again after their threads have ended and never freed; there are as many as threads were guarded
// at the same time.
#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <vector>

#include "client/entry.h"

namespace procguard::client {

struct Chunk {
  std::array<Entry, 8> entries;
  std::atomic<Chunk*> next{nullptr};
};

struct Thread {
  std::atomic<Thread*> next{nullptr};
  std::atomic<bool> used{false};
  std::atomic<std::uint32_t> pending{0};  // entries with PROCGUARD_PULL whose exception waits
  std::atomic<std::uint32_t> bell{0};     // a futex: rung when something becomes pending
  // Constant while an entry is entered that is not suspended; one that is may have outlived its
  // thread, and this be the next one's.
  std::atomic<pid_t> tid{0};
  Chunk first;

  // The thread's own: what it has entered, the outermost first. Another thread may have left some
  // of them: their generations are over.
  std::vector<procguard_entry> stack;

  // A free slot; nullptr where memory is out.
  Entry* free_entry();
  // Takes what is over off the top of the stack.
  void trim();
  void forget(procguard_entry entry);
};

// The calling thread's record; made at its first entry. nullptr: memory is out, or the thread is
// ending. Its entries are left when the thread ends.
Thread* this_thread();
// The same, nullptr if it has none.
Thread* this_thread_if_known();
// The first of all records.
Thread* first_thread();

// Puts what is entered already on the session's page. The monitor's.
void show_all_entries();

// In a fork's child, by its only thread: all entries are void, its own too.
void void_all_entries();

inline Entry* slot_of(procguard_entry entry) {
  return static_cast<Entry*>(entry.slot);
}
// Entered and not left.
inline bool is_live(procguard_entry entry) {
  return entry.slot != nullptr &&
         is_entered(slot_of(entry)->state.load(std::memory_order_acquire), entry.generation);
}

}  // namespace procguard::client
