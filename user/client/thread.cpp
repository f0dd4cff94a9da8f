// SPDX-License-Identifier: Apache-2.0
#include "client/thread.h"

#include <unistd.h>

#include <algorithm>
#include <new>

#include "client/monitor.h"

namespace procguard::client {
namespace {

std::atomic<Thread*> g_first{nullptr};

// Initial-exec: read at each entry and progress.
thread_local Thread* t_thread __attribute__((tls_model("initial-exec"))) = nullptr;
thread_local bool t_ended __attribute__((tls_model("initial-exec"))) = false;

// A thread that ends inside its guards leaves them: nobody must signal a tid that may be another's.
struct Ending {
  bool armed = false;
  ~Ending() {
    if (!armed || t_thread == nullptr) {
      return;
    }
    Thread* thread = t_thread;
    while (!thread->stack.empty()) {
      const procguard_entry innermost = thread->stack.back();
      thread->stack.pop_back();
      Monitor::instance().leave(innermost, nullptr);
    }
    thread->stack.shrink_to_fit();
    t_thread = nullptr;
    t_ended = true;
    thread->used.store(false, std::memory_order_release);
  }
};
thread_local Ending t_ending;

Thread* claim() {
  for (Thread* thread = g_first.load(std::memory_order_acquire); thread != nullptr;
       thread = thread->next.load(std::memory_order_acquire)) {
    bool free = false;
    if (!thread->used.load(std::memory_order_relaxed) &&
        thread->used.compare_exchange_strong(free, true, std::memory_order_acq_rel)) {
      return thread;
    }
  }
  auto* thread = new (std::nothrow) Thread;
  if (thread == nullptr) {
    return nullptr;
  }
  thread->used.store(true, std::memory_order_relaxed);
  Thread* first = g_first.load(std::memory_order_relaxed);
  do {
    thread->next.store(first, std::memory_order_relaxed);
  } while (!g_first.compare_exchange_weak(first, thread, std::memory_order_acq_rel));
  return thread;
}

template <typename Visit>
void for_all_entries(const Visit& visit) {
  for (Thread* thread = first_thread(); thread != nullptr; thread = thread->next.load()) {
    for (Chunk* chunk = &thread->first; chunk != nullptr; chunk = chunk->next.load()) {
      for (Entry& entry : chunk->entries) {
        visit(entry);
      }
    }
  }
}

void make_void(Entry& entry) {
  entry.shown.forget();
  const std::uint64_t state = entry.state.load(std::memory_order_relaxed);
  if (phase_of(state) == kFree) {
    return;
  }
  // Not given up: the thread that held it may have been anywhere. A child loses some bytes.
  entry.guard = nullptr;
  entry.pending.store(0, std::memory_order_relaxed);
  entry.end_leave(generation_of(state));
}

}  // namespace

Thread* this_thread() {
  if (t_thread != nullptr || t_ended) {
    return t_thread;
  }
  Thread* thread = claim();
  if (thread != nullptr) {
    thread->tid = ::gettid();
    t_thread = thread;
    t_ending.armed = true;
  }
  return thread;
}

Thread* this_thread_if_known() {
  return t_thread;
}

Thread* first_thread() {
  return g_first.load(std::memory_order_acquire);
}

// One that is held at this moment is its own thread's, or being left.
void show_all_entries() {
  for_all_entries([](Entry& entry) {
    if (entry.hold(generation_of(entry.state.load(std::memory_order_acquire)))) {
      entry.show();
      entry.let_go();
    }
  });
}

void void_all_entries() {
  for_all_entries(make_void);
  for (Thread* thread = first_thread(); thread != nullptr; thread = thread->next.load()) {
    thread->pending.store(0);
    thread->stack.clear();
    thread->used.store(thread == t_thread);
  }
  if (t_thread != nullptr) {
    t_thread->tid = ::gettid();
  }
}

Entry* Thread::free_entry() {
  Chunk* last = &first;
  for (Chunk* chunk = &first; chunk != nullptr; chunk = chunk->next.load()) {
    for (Entry& entry : chunk->entries) {
      if (phase_of(entry.state.load(std::memory_order_acquire)) == kFree) {
        return &entry;
      }
    }
    last = chunk;
  }
  auto* chunk = new (std::nothrow) Chunk;
  last->next.store(chunk, std::memory_order_release);
  return chunk == nullptr ? nullptr : chunk->entries.data();
}

void Thread::trim() {
  while (!stack.empty() && !is_live(stack.back())) {
    stack.pop_back();
  }
}

void Thread::forget(procguard_entry entry) {
  const auto found = std::find_if(stack.rbegin(), stack.rend(), [&](const procguard_entry& e) {
    return e.slot == entry.slot && e.generation == entry.generation;
  });
  if (found != stack.rend()) {
    stack.erase(std::next(found).base());
  }
}

}  // namespace procguard::client
