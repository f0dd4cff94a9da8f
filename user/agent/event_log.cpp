// SPDX-License-Identifier: Apache-2.0
#include "agent/event_log.h"

#include <algorithm>

namespace procguard::agent {
namespace {

bool asked_for(const proto::EventBody& event, const proto::EventsBody& wanted) {
  return event.real_ns >= wanted.since_real_ns &&
         (wanted.guard == 0 || event.event.guard == wanted.guard);
}

}  // namespace

EventLog::EventLog(std::size_t capacity) : capacity_(std::max<std::size_t>(capacity, 1)) {}

// Event N stands at (N - 1) % capacity: while the ring fills, that is its end.
const proto::EventBody& EventLog::add(proto::EventBody event) {
  const std::size_t slot = last_seq_ % capacity_;
  event.seq = ++last_seq_;
  if (slot == ring_.size()) {
    ring_.push_back(event);
  } else {
    ring_[slot] = event;
  }
  return ring_[slot];
}

const proto::EventBody* EventLog::next(const proto::EventsBody& wanted, std::uint64_t after) const {
  const std::uint64_t before_oldest = last_seq_ - ring_.size();
  for (std::uint64_t seq = std::max({after, wanted.since_seq, before_oldest}); seq < last_seq_;
       ++seq) {
    const proto::EventBody& event = ring_[seq % capacity_];
    if (asked_for(event, wanted)) {
      return &event;
    }
  }
  return nullptr;
}

}  // namespace procguard::agent
