// SPDX-License-Identifier: Apache-2.0
#include "agent/ended.h"

#include <algorithm>

#include "proto/codec.h"

namespace procguard::agent {

void Ended::add(const proto::ShowBody& last, core::Ns now) {
  const std::uint64_t id = last.row.guard.id;
  if (guards_.insert_or_assign(id, last).second) {
    order_.push_back(id);
  }
  while (order_.size() > kAtLeast &&
         (order_.size() > kAtMost || guards_.at(order_.front()).row.guard.ended_ns + kFor < now)) {
    guards_.erase(order_.front());
    order_.pop_front();
  }
}

const proto::ShowBody* Ended::find(std::uint64_t id) const {
  const auto found = guards_.find(id);
  return found == guards_.end() ? nullptr : &found->second;
}

const proto::ShowBody* Ended::find(const std::string& name, std::optional<uid_t> owner) const {
  const auto found = std::find_if(order_.rbegin(), order_.rend(), [&](std::uint64_t id) {
    const pg_guard& guard = guards_.at(id).row.guard;
    return proto::get_text(guard.name) == name && (!owner || guard.owner_uid == *owner);
  });
  return found == order_.rend() ? nullptr : &guards_.at(*found);
}

const proto::ShowBody* Ended::next_after(std::uint64_t after) const {
  const auto next = guards_.upper_bound(after);
  return next == guards_.end() ? nullptr : &next->second;
}

}  // namespace procguard::agent
