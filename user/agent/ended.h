// SPDX-License-Identifier: Apache-2.0
// Ended: guards that are over, for whoever asks afterwards. The last 1,000 stay, and each at least
// an hour, within reason: beyond 50,000 the oldest gives way whatever its age. One thread.
#pragma once

#include <cstdint>
#include <deque>
#include <string>

#include "core/clock.h"
#include "proto/messages.h"

namespace procguard::agent {

class Ended {
 public:
  void add(const proto::ShowBody& last, core::Ns now);
  // nullptr: it is not known (any more).
  const proto::ShowBody* find(std::uint64_t id) const;
  const proto::ShowBody* find(const std::string& name) const;  // the last with this name
  // The first with an id above `after`.
  const proto::ShowBody* next_after(std::uint64_t after) const;
  std::size_t size() const { return guards_.size(); }

 private:
  static constexpr std::size_t kAtLeast = 1000;
  static constexpr std::size_t kAtMost = 50000;
  static constexpr core::Ns kFor = 3600 * core::kSecond;

  std::deque<proto::ShowBody> guards_;  // in the order they ended
};

}  // namespace procguard::agent
