// SPDX-License-Identifier: Apache-2.0
// Deliveries: the second thread. Callbacks may wait for an interpreter's lock as long as somebody
// holds it; the monitor must not. Started at the first step that somebody wants to hear of.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>

#include "procguard/procguard.h"

namespace procguard::client {

class Deliveries {
 public:
  // Any thread. False: no thread could be started, the step is not told.
  bool push(procguard_deliver deliver, procguard_entry entry, const procguard_trip& trip);

  // Takes the next one that is for this callback.
  bool pop(procguard_deliver deliver, procguard_entry& entry, procguard_trip& trip);

  // Around fork(): nobody is inside while it happens. In the child the thread is not there and
  // undelivered steps are void.
  void before_fork() { mutex_.lock(); }
  void after_fork_in_parent() { mutex_.unlock(); }
  void after_fork_in_child();

 private:
  struct Item {
    procguard_deliver deliver;
    procguard_entry entry;
    procguard_trip trip;
  };

  static void* run(void* self);

  std::mutex mutex_;
  std::deque<Item> queue_;
  bool started_ = false;
  std::atomic<std::uint32_t> bell_{0};  // rung at each push
};

}  // namespace procguard::client
