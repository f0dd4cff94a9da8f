// SPDX-License-Identifier: Apache-2.0
#include "client/deliveries.h"

#include "client/futex.h"
#include "client/native_thread.h"

namespace procguard::client {

bool Deliveries::push(procguard_deliver deliver, procguard_entry entry,
                      const procguard_trip& trip) {
  const std::lock_guard lock(mutex_);
  if (!started_ && !start_native_thread("procguard-tell", &Deliveries::run, this)) {
    return false;
  }
  started_ = true;
  queue_.push_back({deliver, entry, trip});
  bell_.fetch_add(1);
  futex_wake_all(bell_);
  return true;
}

bool Deliveries::pop(procguard_deliver deliver, procguard_entry& entry, procguard_trip& trip) {
  const std::lock_guard lock(mutex_);
  if (queue_.empty() || queue_.front().deliver != deliver) {
    return false;
  }
  entry = queue_.front().entry;
  trip = queue_.front().trip;
  queue_.pop_front();
  return true;
}

void Deliveries::after_fork_in_child() {
  queue_.clear();
  started_ = false;
  mutex_.unlock();
}

void* Deliveries::run(void* self) {
  auto& deliveries = *static_cast<Deliveries*>(self);
  for (;;) {
    const std::uint32_t seen = deliveries.bell_.load();
    std::unique_lock lock(deliveries.mutex_);
    if (deliveries.queue_.empty()) {
      lock.unlock();
      futex_wait(deliveries.bell_, seen);
      continue;
    }
    const Item item = deliveries.queue_.front();
    deliveries.queue_.pop_front();
    lock.unlock();
    item.deliver(item.entry, &item.trip);
  }
}

}  // namespace procguard::client
