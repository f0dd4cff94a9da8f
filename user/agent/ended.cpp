// SPDX-License-Identifier: Apache-2.0
#include "agent/ended.h"

#include "proto/codec.h"

namespace procguard::agent {

void Ended::add(const proto::ShowBody& last, core::Ns now) {
  const std::uint64_t id = last.row.guard.id;
  if (!guards_.insert({id, last}).second) {
    return;
  }
  order_.push_back(id);
  for_each_name(id, [&](const Name& name) { names_[name].push_back(id); });
  while (order_.size() > kAtLeast &&
         (order_.size() > kAtMost || guards_.at(order_.front()).row.guard.ended_ns + kFor < now)) {
    drop_oldest();
  }
}

void Ended::for_each_name(std::uint64_t id, const std::function<void(const Name&)>& visit) const {
  const pg_guard& guard = guards_.at(id).row.guard;
  if (const std::string name = proto::get_text(guard.name); !name.empty()) {
    visit({guard.owner_uid, name});
    visit({std::nullopt, name});
  }
}

// The oldest of all is the oldest of its name.
void Ended::drop_oldest() {
  for_each_name(order_.front(), [this](const Name& name) {
    auto& of_name = names_.at(name);
    of_name.pop_front();
    if (of_name.empty()) {
      names_.erase(name);
    }
  });
  guards_.erase(order_.front());
  order_.pop_front();
}

const proto::ShowBody* Ended::find(std::uint64_t id) const {
  const auto found = guards_.find(id);
  return found == guards_.end() ? nullptr : &found->second;
}

const proto::ShowBody* Ended::find(const std::string& name, std::optional<uid_t> owner) const {
  const auto found = names_.find({owner, name});
  return found == names_.end() ? nullptr : &guards_.at(found->second.back());
}

const proto::ShowBody* Ended::next_after(std::uint64_t after) const {
  const auto next = guards_.upper_bound(after);
  return next == guards_.end() ? nullptr : &next->second;
}

}  // namespace procguard::agent
