// SPDX-License-Identifier: Apache-2.0
// Ended: guards that are over, for whoever asks afterwards. The last 1,000 stay, and each at least
// an hour, within reason: beyond 50,000 the oldest gives way whatever its age. One thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "core/clock.h"
#include "proto/messages.h"

namespace procguard::agent {

class Ended {
 public:
  void add(const proto::ShowBody& last, core::Ns now);
  // nullptr: it is not known (any more).
  const proto::ShowBody* find(std::uint64_t id) const;
  // The last with this name, of this owner; none: of anybody.
  const proto::ShowBody* find(const std::string& name, std::optional<uid_t> owner) const;
  // The first with an id above `after`.
  const proto::ShowBody* next_after(std::uint64_t after) const;
  std::size_t size() const { return order_.size(); }

 private:
  static constexpr std::size_t kAtLeast = 1000;
  static constexpr std::size_t kAtMost = 50000;
  static constexpr core::Ns kFor = 3600 * core::kSecond;

  // Names of an owner, and (no owner) of all.
  using Name = std::pair<std::optional<uid_t>, std::string>;
  void for_each_name(std::uint64_t id, const std::function<void(const Name&)>& visit) const;
  void drop_oldest();

  std::map<std::uint64_t, proto::ShowBody> guards_;  // by id
  std::deque<std::uint64_t> order_;                  // in which they ended
  std::map<Name, std::deque<std::uint64_t>> names_;  // the same of each name
};

}  // namespace procguard::agent
