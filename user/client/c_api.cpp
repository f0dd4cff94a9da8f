// SPDX-License-Identifier: Apache-2.0
// The C ABI: what procguard.h declares, by what the other files here do.
#include <cerrno>
#include <cstring>
#include <string>

#include "client/futex.h"
#include "client/guard.h"
#include "client/monitor.h"
#include "client/thread.h"
#include "procguard/procguard.h"

using procguard::client::Entry;
using procguard::client::futex_wait;
using procguard::client::Guard;
using procguard::client::is_live;
using procguard::client::Monitor;
using procguard::client::slot_of;
using procguard::client::Thread;
namespace client = procguard::client;

namespace {

void copy_text(const std::string& text, char* to, std::size_t size) {
  if (to != nullptr && size > 0) {
    const std::size_t length = std::min(text.size(), size - 1);
    std::memcpy(to, text.data(), length);
    to[length] = '\0';
  }
}

procguard_entry innermost(bool (*wanted)(const Guard&, const void*), const void* argument) {
  Thread* thread = client::this_thread_if_known();
  if (thread == nullptr) {
    return {};
  }
  thread->trim();
  for (auto entry = thread->stack.rbegin(); entry != thread->stack.rend(); ++entry) {
    // Its guard can be looked at while it is ours to hold: another thread may be leaving it.
    Entry* slot = slot_of(*entry);
    if (slot->await(entry->generation)) {
      const bool found = wanted(*slot->guard, argument);
      slot->let_go();
      if (found) {
        return *entry;
      }
    }
  }
  return {};
}

void restart(Entry& entry) {
  Monitor::instance().restart(entry);
}

// Progress of an entry that is held. One that is told its exceptions has no use for a pending one.
int restart_held(Entry& entry) {
  const bool withdrawn = !entry.pull.load(std::memory_order_relaxed) && entry.withdraw();
  restart(entry);
  return withdrawn ? 1 : 0;
}

}  // namespace

int procguard_next_delivery(procguard_deliver deliver, procguard_entry* entry,
                            procguard_trip* trip) {
  return Monitor::instance().deliveries().pop(deliver, *entry, *trip) ? 1 : 0;
}

procguard_guard* procguard_guard_new(const procguard_options* options, char* error,
                                     size_t error_size) {
  auto guard = client::make_guard(*options);
  if (!guard) {
    copy_text(guard.error().message(), error, error_size);
    return nullptr;
  }
  return guard.value();
}

procguard_guard* procguard_guard_ref(procguard_guard* guard) {
  client::hold(*guard);
  return guard;
}

void procguard_guard_unref(procguard_guard* guard) {
  client::give_up(guard);
}

uint64_t procguard_guard_id(const procguard_guard* guard) {
  return guard->id;
}

int procguard_enter(procguard_guard* guard, void* user, procguard_entry* entry) {
  return Monitor::instance().enter(*guard, user, *entry);
}

int procguard_leave(procguard_entry entry, procguard_trip* withdrawn) {
  return Monitor::instance().leave(entry, withdrawn);
}

int procguard_suspend(procguard_entry entry) {
  return Monitor::suspend(entry);
}

int procguard_resume(procguard_entry entry) {
  return Monitor::instance().resume(entry);
}

int procguard_progress(procguard_entry handle) {
  Entry* entry = slot_of(handle);
  if (!is_live(handle)) {
    return 0;
  }
  if (entry->pull.load(std::memory_order_relaxed)) {
    const Thread* mine = client::this_thread_if_known();
    if (entry->thread.load(std::memory_order_relaxed) == mine &&
        mine->pending.load(std::memory_order_acquire) != 0) {
      return 1;
    }
  } else if (entry->pending.load(std::memory_order_relaxed) != 0) {
    if (!entry->await(handle.generation)) {
      return 0;
    }
    const int withdrawn = restart_held(*entry);
    entry->let_go();
    return withdrawn;
  }
  restart(*entry);
  return 0;
}

int procguard_guard_progress(procguard_guard* guard) {
  const procguard_entry mine = procguard_innermost_of(guard);
  if (mine.slot != nullptr) {
    return procguard_progress(mine);
  }
  int withdrawn = 0;
  for (Thread* thread = client::first_thread(); thread != nullptr; thread = thread->next.load()) {
    for (auto* chunk = &thread->first; chunk != nullptr; chunk = chunk->next.load()) {
      for (Entry& entry : chunk->entries) {
        const std::uint64_t generation = client::generation_of(entry.state.load());
        if (entry.await(generation)) {
          if (entry.guard == guard) {
            withdrawn |= restart_held(entry);
          }
          entry.let_go();
        }
      }
    }
  }
  return withdrawn;
}

int procguard_take_entry(procguard_entry handle, procguard_trip* trip) {
  Entry* entry = slot_of(handle);
  if (entry == nullptr || !entry->await(handle.generation)) {
    return 0;
  }
  const bool taken = entry->clear_pending();
  if (taken && trip != nullptr) {
    *trip = entry->trip;
  }
  entry->let_go();
  return taken ? 1 : 0;
}

int procguard_take(procguard_trip* trip) {
  Thread* thread = client::this_thread_if_known();
  if (thread == nullptr || thread->pending.load(std::memory_order_acquire) == 0) {
    return 0;
  }
  for (const procguard_entry& entry : thread->stack) {
    if (slot_of(entry)->pending.load(std::memory_order_acquire) == 0 || !is_live(entry)) {
      continue;
    }
    if (slot_of(entry)->await(entry.generation)) {
      const bool pull = slot_of(entry)->pull.load();
      slot_of(entry)->let_go();
      if (pull && procguard_take_entry(entry, trip) == 1) {
        return 1;
      }
    }
  }
  return 0;
}

int procguard_is_pending(procguard_entry entry) {
  return is_live(entry) && slot_of(entry)->pending.load(std::memory_order_acquire) != 0 ? 1 : 0;
}

procguard_entry procguard_innermost_timeout(void) {
  return innermost([](const Guard& guard, const void*) { return guard.resource == PG_TIMEOUT; },
                   nullptr);
}

procguard_entry procguard_innermost_of(const procguard_guard* guard) {
  return innermost([](const Guard& of, const void* wanted) { return &of == wanted; }, guard);
}

void* procguard_user(procguard_entry entry) {
  Entry* slot = slot_of(entry);
  if (slot == nullptr || !slot->await(entry.generation)) {
    return nullptr;
  }
  void* user = slot->user;
  slot->let_go();
  return user;
}

int procguard_is_entered(procguard_entry entry) {
  return is_live(entry) ? 1 : 0;
}

int procguard_thread_id(procguard_entry entry) {
  Entry* slot = slot_of(entry);
  if (slot == nullptr || !slot->await(entry.generation)) {
    return 0;
  }
  const int tid = slot->suspended ? 0 : slot->thread.load()->tid.load();
  slot->let_go();
  return tid;
}

int procguard_last_trip(procguard_guard* guard, procguard_trip* trip) {
  const std::lock_guard lock(client::trips_mutex());
  if (guard->last_trip.guard == 0) {
    return 0;
  }
  *trip = guard->last_trip;
  return 1;
}

int procguard_sleep(uint64_t ns) {
  const Monitor& monitor = Monitor::instance();
  const procguard::core::Ns until = procguard::core::saturating_add(monitor.now(), ns);
  static const std::atomic<std::uint32_t> nobody{0};
  for (;;) {
    Thread* thread = client::this_thread_if_known();
    const std::atomic<std::uint32_t>& bell = thread == nullptr ? nobody : thread->bell;
    const std::uint32_t seen = bell.load(std::memory_order_acquire);
    if (thread != nullptr && thread->pending.load(std::memory_order_acquire) != 0) {
      return 1;
    }
    if (monitor.now() >= until) {
      return 0;
    }
    futex_wait(bell, seen, until);
  }
}

const char* procguard_source(void) {
  return Monitor::instance().source_name();
}

const char* procguard_version(void) {
  return PROCGUARD_VERSION;
}
