// SPDX-License-Identifier: Apache-2.0
#include "engine/controller.h"

#include <algorithm>
#include <cerrno>
#include <variant>

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
  checked.flags |= target.any_uid ? static_cast<std::uint32_t>(PG_GUARD_ANY_UID) : 0U;
  auto guard = core::make_guard(checked, next_id_);
  if (!guard) {
    return guard.error();
  }
  auto watch = share_or_watch(target);
  if (!watch) {
    return watch.error();
  }
  const std::uint64_t id = next_id_++;
  Entry& added = guards_[id];
  added.state = guard.value();
  note_target(added, *watch.value());
  watch.value()->guards.push_back(id);
  if ((added.state.flags & PG_GUARD_HELD) != 0) {
    source_.publish(added.state);  // a start publishes the others
  }
  return id;
}

void Controller::note_target(Entry& entry, const Watch& watch) {
  pg_guard& state = entry.state;
  state.watch = watch.id;
  state.pid = static_cast<std::uint32_t>(watch.target.pid);
  state.tid = static_cast<std::uint32_t>(watch.target.tid);
  state.cgroup_id = watch.target.cgroup_id;
  state.target_start_ns = watch.target.start_ns;
}

Controller::Key Controller::key_of(const Target& target) {
  return {target.scope, target.pid, target.tid, target.cgroup_id, target.owner_uid, target.any_uid};
}

// The watch that other guards have on this target, or a new one.
Result<Controller::Watch*> Controller::share_or_watch(const Target& target) {
  const Key key = key_of(target);
  if (auto known = by_target_.find(key); known != by_target_.end()) {
    Watch& shared = watches_.at(known->second);
    if (still_same(shared)) {
      return &shared;
    }
  }
  auto watched = source_.watch(target);
  if (!watched) {
    return watched.error();
  }
  Watch& added = watches_[watched.value()];
  added.id = watched.value();
  added.target = target;
  if (target.scope != PG_SCOPE_CGROUP) {
    if (auto members = source_.members(added.id)) {
      for (const Member& member : members.value()) {
        added.target.start_ns = member.pid == target.pid ? member.start_ns : added.target.start_ns;
      }
    }
  }
  by_target_[key] = added.id;
  return &added;
}

// Its first process is still there: then its pid cannot be another's. One that is being ended is
// not shared: who is armed now is not to inherit the death of another guard's target.
bool Controller::still_same(Watch& watch) {
  if (watch.sweep_at != core::kNever) {
    return false;
  }
  if (watch.target.scope == PG_SCOPE_CGROUP) {
    return true;
  }
  const auto members = source_.members(watch.id);
  return members && std::any_of(members->begin(), members->end(), [&](const Member& member) {
           return member.pid == watch.target.pid && member.start_ns == watch.target.start_ns;
         });
}

Result<void> Controller::start(std::uint64_t guard, core::Ns at_ns) {
  Entry* started = entry(guard);
  Watch* watch = started == nullptr ? nullptr : watch_of(*started);
  if (watch == nullptr) {
    return unknown_guard(guard);
  }
  if (started->state.armed_ns != 0) {
    return Error("guard g" + std::to_string(guard) + ": it was started before", EALREADY);
  }
  const core::Ns now = clock_.now();
  const core::Ns at = at_ns == 0 ? now : std::min(at_ns, now);
  if (auto read = read_memory(*watch, started->state); !read) {
    return read;
  }
  auto levels = source_.levels(watch->id);
  if (!levels && has_levels(started->state)) {
    return levels.error();
  }
  core::Start input;
  if (levels) {
    input = {.cpu_ns = levels->cpu_ns, .rss_bytes = levels->memory_bytes};
  }
  const pg_guard before = started->state;
  const core::Actions actions = core::step(started->state, input, at);
  if (has_levels(started->state)) {
    const Thresholds wanted = wanted_of(*watch, levels ? levels->memory_bytes : 0);
    if (auto set = put_in_force(*watch, wanted); !set) {
      started->state = before;
      return set;
    }
  }
  for (const core::Action& action : actions) {
    emit(*started, std::get<core::Emit>(action).event, nullptr);  // Start takes no step
  }
  drive(*started);
  return {};
}

// Whoever was watched without a memory limit so far may have grown unseen.
Result<void> Controller::read_memory(const Watch& watch, const pg_guard& guard) {
  const bool limited = in_force(guard.limit[PG_MEMORY]) || in_force(guard.limit[PG_MEMORY_GROWTH]);
  return limited ? source_.read_memory(watch.id) : Result<void>{};
}

Result<void> Controller::adopt(const pg_guard& state, const Target& target) {
  if (guards_.contains(state.id)) {
    return Error("guard g" + std::to_string(state.id) + ": adopted twice", EEXIST);
  }
  auto known = watches_.find(state.watch);
  if (known == watches_.end()) {
    auto levels = source_.levels(state.watch);
    if (!levels) {
      return levels.error().in("guard g" + std::to_string(state.id));
    }
    known = watches_.emplace(state.watch, Watch{}).first;
    Watch& watch = known->second;
    watch.id = state.watch;
    watch.target = target;
    for (int slot = 0; slot < 2; ++slot) {
      // With its signal: what the kernel did by itself meanwhile was the step of such a guard.
      watch.in_force.memory[slot] = {.bytes = levels->memory[slot].limit,
                                     .kernel_signal = levels->memory[slot].kernel_signal};
    }
    by_target_[key_of(target)] = watch.id;
  }
  known->second.guards.push_back(state.id);
  guards_[state.id].state = state;
  next_id_ = std::max<std::uint64_t>(next_id_, state.id + 1);
  return {};
}

void Controller::resume_all() {
  std::vector<WatchId> all;
  for (const auto& [id, watch] : watches_) {
    all.push_back(id);
  }
  for (const WatchId id : all) {
    auto watch = watches_.find(id);
    if (watch == watches_.end()) {
      continue;
    }
    const std::vector<std::uint64_t> guards = watch->second.guards;
    for (const std::uint64_t guard : guards) {
      feed(*entry(guard), core::Adopt{}, clock_.now());
    }
    // Not of a guard that has had its last step meanwhile: it would be taken again at the next gap.
    put_failsafe(watch->second, failsafe_of(watch->second));
    drive_watch(watch->second);
    go_on_sweeping(watch->second);
  }
}

void Controller::progress(std::uint64_t guard) {
  if (Entry* found = entry(guard)) {
    feed(*found, core::Progress{}, clock_.now());
    source_.publish(found->state);
    if (Watch* watch = watch_of(*found)) {
      refresh_for(*found, *watch);
    }
    reschedule(*found);
  }
}

Result<void> Controller::set_limit(std::uint64_t guard, pg_resource resource, std::uint64_t limit) {
  Entry* found = entry(guard);
  Watch* watch = found == nullptr ? nullptr : watch_of(*found);
  if (watch == nullptr || found->released || found->state.phase > PG_GUARD_ARMED) {
    return unknown_guard(guard);
  }
  // Asked of the source before the guard changes: a limit that cannot be compared is refused.
  core::SetLimit input{.resource = resource, .limit = limit};
  if (resource != PG_TIMEOUT) {
    if (auto set = compare_with(*found, *watch, input); !set) {
      return set;
    }
  }
  feed(*found, input, clock_.now());
  begun_anew_[guard] = clock_.now();
  drive(*found);
  return {};
}

// Puts in force what a guard with this limit asks for, and completes the input with the level of
// now.
Result<void> Controller::compare_with(Entry& entry, Watch& watch, core::SetLimit& input) {
  pg_guard wanted = entry.state;
  core::step(wanted, input, clock_.now());
  if (auto read = read_memory(watch, wanted); !read) {
    return read;
  }
  Levels levels;
  if (!read_levels(watch, levels)) {
    return Error::system("reading the levels of guard g" + std::to_string(entry.state.id), ESRCH);
  }
  feed_levels(entry, watch, levels);  // by what it was until now
  input.level = levels.memory_bytes;
  wanted = entry.state;
  core::step(wanted, input, clock_.now());
  std::swap(wanted, entry.state);
  const Thresholds thresholds = wanted_of(watch, levels.memory_bytes);
  std::swap(wanted, entry.state);
  return put_in_force(watch, thresholds);
}

void Controller::pause(std::uint64_t guard) {
  if (Entry* found = entry(guard)) {
    const auto now_used = levels(guard);
    feed(*found, core::Pause{.cpu_ns = now_used ? now_used->cpu_ns : 0}, clock_.now());
    drive(*found);
  }
}

void Controller::resume(std::uint64_t guard) {
  if (Entry* found = entry(guard)) {
    const auto now_used = levels(guard);
    feed(*found, core::Resume{.cpu_ns = now_used ? now_used->cpu_ns : 0}, clock_.now());
    begun_anew_[guard] = clock_.now();
    if (Watch* watch = watch_of(*found)) {
      refresh_thresholds(*watch);  // in force first, then the levels
    }
    drive(*found);
  }
}

void Controller::target_gone(std::uint64_t guard) {
  Entry* found = entry(guard);
  if (found == nullptr) {
    return;
  }
  const Watch* watch = watch_of(*found);
  if (watch != nullptr && is_group(watch->target)) {
    drive(*found);
    return;
  }
  target_removed(guard);
}

void Controller::target_removed(std::uint64_t guard) {
  if (Entry* found = entry(guard)) {
    feed(*found, core::TargetGone{}, clock_.now());
    reschedule(*found);
  }
}

void Controller::release(std::uint64_t guard) {
  Entry* found = entry(guard);
  if (found == nullptr || found->released) {
    return;
  }
  feed(*found, core::Release{}, clock_.now());
  leave_watch(*found);
  reschedule(*found);
}

void Controller::forget(std::uint64_t guard) {
  auto found = guards_.find(guard);
  if (found != guards_.end() && found->second.released) {
    guards_.erase(found);
    begun_anew_.erase(guard);
  }
}

void Controller::on_source(const std::function<void(WatchId)>& others) {
  for (WatchId id : source_.drain()) {
    auto found = watches_.find(id);
    if (found != watches_.end()) {
      drive_watch(found->second);
    } else if (others) {
      others(id);
    }
  }
}

void Controller::on_time() {
  core::Ns now = clock_.now();
  if (source_.next_check(now) <= now) {
    on_source();
  }
  const std::set<WatchId> again = std::exchange(look_again_, {});
  for (const WatchId id : again) {
    if (auto found = watches_.find(id); found != watches_.end()) {
      drive_watch(found->second);
    }
  }
  while (!sweeps_.empty() && sweeps_.begin()->first <= now) {
    sweep(watches_.at(sweeps_.begin()->second));
  }
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    drive(guards_.at(deadlines_.begin()->second));
    now = clock_.now();
  }
}

core::Ns Controller::next_due() {
  if (!look_again_.empty()) {
    return clock_.now();
  }
  core::Ns first = deadlines_.empty() ? core::kNever : deadlines_.begin()->first;
  if (!sweeps_.empty()) {
    first = std::min(first, sweeps_.begin()->first);
  }
  return std::min(first, source_.next_check(clock_.now()));
}

const pg_guard* Controller::find(std::uint64_t guard) const {
  const Entry* found = entry(guard);
  return found == nullptr ? nullptr : &found->state;
}

const pg_guard* Controller::next_after(std::uint64_t after) const {
  const auto found = guards_.upper_bound(after);
  return found == guards_.end() ? nullptr : &found->second.state;
}

const Target* Controller::target(std::uint64_t guard) const {
  const Entry* found = entry(guard);
  if (found == nullptr) {
    return nullptr;
  }
  const auto watch = watches_.find(found->state.watch);
  return watch == watches_.end() ? nullptr : &watch->second.target;
}

Result<Levels> Controller::levels(std::uint64_t guard) {
  const Entry* found = entry(guard);
  if (found == nullptr || !watches_.contains(found->state.watch)) {
    return unknown_guard(guard);
  }
  return source_.levels(found->state.watch);
}

Result<Usage> Controller::usage(std::uint64_t guard) {
  const Entry* found = entry(guard);
  if (found == nullptr || !watches_.contains(found->state.watch)) {
    return unknown_guard(guard);
  }
  return source_.usage(found->state.watch);
}

Controller::Entry* Controller::entry(std::uint64_t guard) {
  auto found = guards_.find(guard);
  return found == guards_.end() ? nullptr : &found->second;
}

const Controller::Entry* Controller::entry(std::uint64_t guard) const {
  auto found = guards_.find(guard);
  return found == guards_.end() ? nullptr : &found->second;
}

Controller::Watch* Controller::watch_of(const Entry& entry) {
  auto found = watches_.find(entry.state.watch);
  return found == watches_.end() ? nullptr : &found->second;
}

}  // namespace procguard::engine
