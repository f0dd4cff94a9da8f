// SPDX-License-Identifier: Apache-2.0
// A guard as a program defines it: checked options and the state that each of its entries begins
// with. Entered any number of times, by any number of threads; lives as long as somebody holds it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>

#include "bpf/contract.h"
#include "core/clock.h"
#include "core/result.h"
#include "procguard/procguard.h"

struct procguard_guard {
  std::uint64_t id = 0;
  pg_resource resource = PG_TIMEOUT;
  std::uint64_t limit = 0;  // ns or bytes, as given
  procguard::core::Ns check_interval = 0;
  bool pull = false;            // the thread takes exceptions up itself
  bool break_syscalls = false;  // an exception step ends a blocking system call
  procguard_deliver deliver = nullptr;
  pg_guard begin{};  // before Start

  std::atomic<std::uint32_t> refs{1};
  procguard_trip last_trip{};  // under trips_mutex(); guard 0: none
};

namespace procguard::client {

using Guard = ::procguard_guard;

// Checks the options. The caller holds the guard it gets.
Result<Guard*> make_guard(const procguard_options& options);

// Of all guards' last_trip: steps are rare, and one mutex can be held while the process forks.
std::mutex& trips_mutex();

inline void hold(Guard& guard) {
  guard.refs.fetch_add(1, std::memory_order_relaxed);
}
inline void give_up(Guard* guard) {
  if (guard != nullptr && guard->refs.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    delete guard;
  }
}

}  // namespace procguard::client
