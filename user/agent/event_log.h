// SPDX-License-Identifier: Apache-2.0
// EventLog: the last events, numbered, for whoever asks later. One thread. Fixed in size.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "proto/messages.h"

namespace procguard::agent {

class EventLog {
 public:
  explicit EventLog(std::size_t capacity = 16384);

  // Numbers it (EventBody::seq) and keeps it; the oldest gives way.
  const proto::EventBody& add(proto::EventBody event);
  std::uint64_t last_seq() const { return last_seq_; }
  // The oldest kept event that `wanted` asks for and that has a higher number than `after`;
  // nullptr: none.
  const proto::EventBody* next(const proto::EventsBody& wanted, std::uint64_t after) const;

 private:
  std::vector<proto::EventBody> ring_;
  std::size_t capacity_;
  std::uint64_t last_seq_ = 0;
};

}  // namespace procguard::agent
