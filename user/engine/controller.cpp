// SPDX-License-Identifier: Apache-2.0
#include "engine/controller.h"

#include <algorithm>
#include <cerrno>
#include <variant>

#include "engine/thresholds.h"

namespace procguard::engine {
namespace {

bool is_group(const Target& target) {
  return target.scope == PG_SCOPE_TREE || target.scope == PG_SCOPE_CGROUP;
}

Error unknown_guard(std::uint64_t guard) {
  return Error("guard g" + std::to_string(guard) + ": no such guard", ESRCH);
}

}  // namespace

Result<std::uint64_t> Controller::arm(const core::GuardSpec& spec, const Target& target) {
  core::GuardSpec checked = spec;
  checked.scope = target.scope;
  checked.owner_uid = target.owner_uid;
  auto guard = core::make_guard(checked, next_id_);
  if (!guard) {
    return guard.error();
  }
  auto watch = source_.watch(target);
  if (!watch) {
    return watch.error();
  }
  const std::uint64_t id = next_id_++;
  Entry& added = guards_[id];
  added.state = guard.value();
  added.target = target;
  added.watch = watch.value();
  added.state.watch = added.watch;
  added.state.pid = static_cast<std::uint32_t>(target.pid);
  added.state.tid = static_cast<std::uint32_t>(target.tid);
  added.state.cgroup_id = target.cgroup_id;
  if (target.scope != PG_SCOPE_CGROUP) {
    if (auto members = source_.members(added.watch)) {
      for (const Member& member : members.value()) {
        added.state.target_start_ns =
            member.pid == target.pid ? member.start_ns : added.state.target_start_ns;
      }
    }
  }
  watched_[added.watch] = id;
  source_.publish(added.state);
  return id;
}

Result<void> Controller::start(std::uint64_t guard, core::Ns at_ns) {
  Entry* started = entry(guard);
  if (started == nullptr || started->watch == 0) {
    return unknown_guard(guard);
  }
  if (started->state.armed_ns != 0) {
    return Error("guard g" + std::to_string(guard) + ": it was started before", EALREADY);
  }
  const core::Ns now = clock_.now();
  const core::Ns at = at_ns == 0 ? now : std::min(at_ns, now);
  auto levels = source_.levels(started->watch);
  if (!levels && has_levels(started->state)) {
    return levels.error();
  }
  core::Start input;
  if (levels) {
    input = {.cpu_ns = levels->cpu_ns, .rss_bytes = levels->memory_bytes};
  }
  pg_guard state = started->state;
  const core::Actions actions = core::step(state, input, at);
  started->in_force = thresholds_of(state);
  if (has_levels(state)) {
    if (auto set = source_.set_thresholds(started->watch, started->in_force); !set) {
      return set;
    }
  }
  started->state = state;
  for (const core::Action& action : actions) {
    emit(*started, std::get<core::Emit>(action).event, nullptr);  // Start takes no step
  }
  drive(*started);
  return {};
}

void Controller::progress(std::uint64_t guard) {
  if (Entry* found = entry(guard)) {
    feed(*found, core::Progress{}, clock_.now());
    reschedule(*found);
  }
}

void Controller::target_gone(std::uint64_t guard) {
  Entry* found = entry(guard);
  if (found == nullptr) {
    return;
  }
  if (is_group(found->target)) {
    drive(*found);
    return;
  }
  feed(*found, core::TargetGone{}, clock_.now());
  reschedule(*found);
}

void Controller::release(std::uint64_t guard) {
  Entry* found = entry(guard);
  if (found == nullptr) {
    return;
  }
  feed(*found, core::Release{}, clock_.now());
  found->released = true;
  if (found->sweep_at == core::kNever) {
    release_watch(*found);
  }
  reschedule(*found);
}

void Controller::forget(std::uint64_t guard) {
  auto found = guards_.find(guard);
  if (found != guards_.end() && found->second.watch == 0) {
    guards_.erase(found);
  }
}

void Controller::on_source() {
  for (WatchId watch : source_.drain()) {
    auto found = watched_.find(watch);
    if (found != watched_.end()) {
      drive(guards_.at(found->second));
    }
  }
}

void Controller::on_time() {
  core::Ns now = clock_.now();
  if (source_.next_check(now) <= now) {
    on_source();
  }
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    Entry& due = guards_.at(deadlines_.begin()->second);
    if (due.sweep_at <= now) {
      sweep(due);
    }
    drive(due);
    now = clock_.now();
  }
}

core::Ns Controller::next_due() {
  const core::Ns first = deadlines_.empty() ? core::kNever : deadlines_.begin()->first;
  return std::min(first, source_.next_check(clock_.now()));
}

bool Controller::busy() const {
  return std::any_of(guards_.begin(), guards_.end(),
                     [](const auto& guard) { return guard.second.sweep_at != core::kNever; });
}

const pg_guard* Controller::find(std::uint64_t guard) const {
  const Entry* found = entry(guard);
  return found == nullptr ? nullptr : &found->state;
}

const Target* Controller::target(std::uint64_t guard) const {
  const Entry* found = entry(guard);
  return found == nullptr ? nullptr : &found->target;
}

Result<Levels> Controller::levels(std::uint64_t guard) {
  const Entry* found = entry(guard);
  if (found == nullptr || found->watch == 0) {
    return unknown_guard(guard);
  }
  return source_.levels(found->watch);
}

Result<Usage> Controller::usage(std::uint64_t guard) {
  const Entry* found = entry(guard);
  if (found == nullptr || found->watch == 0) {
    return unknown_guard(guard);
  }
  return source_.usage(found->watch);
}

Controller::Entry* Controller::entry(std::uint64_t guard) {
  auto found = guards_.find(guard);
  return found == guards_.end() ? nullptr : &found->second;
}

const Controller::Entry* Controller::entry(std::uint64_t guard) const {
  auto found = guards_.find(guard);
  return found == guards_.end() ? nullptr : &found->second;
}

}  // namespace procguard::engine
