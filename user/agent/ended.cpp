// SPDX-License-Identifier: Apache-2.0
#include "agent/ended.h"

#include <algorithm>

#include "proto/codec.h"

namespace procguard::agent {

void Ended::add(const proto::ShowBody& last, core::Ns now) {
  guards_.push_back(last);
  while (guards_.size() > kAtLeast &&
         (guards_.size() > kAtMost || guards_.front().row.guard.ended_ns + kFor < now)) {
    guards_.pop_front();
  }
}

const proto::ShowBody* Ended::find(std::uint64_t id) const {
  const auto found = std::find_if(guards_.rbegin(), guards_.rend(),
                                  [id](const auto& each) { return each.row.guard.id == id; });
  return found == guards_.rend() ? nullptr : &*found;
}

const proto::ShowBody* Ended::find(const std::string& name) const {
  const auto found = std::find_if(guards_.rbegin(), guards_.rend(), [&name](const auto& each) {
    return proto::get_text(each.row.guard.name) == name;
  });
  return found == guards_.rend() ? nullptr : &*found;
}

const proto::ShowBody* Ended::next_after(std::uint64_t after) const {
  const proto::ShowBody* next = nullptr;
  for (const proto::ShowBody& each : guards_) {
    const std::uint64_t id = each.row.guard.id;
    if (id > after && (next == nullptr || id < next->row.guard.id)) {
      next = &each;
    }
  }
  return next;
}

}  // namespace procguard::agent
