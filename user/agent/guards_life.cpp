// SPDX-License-Identifier: Apache-2.0
// The life of guards beside what clients ask for: events, their end, and taking over from an agent
// that has died.
#include <algorithm>
#include <cerrno>
#include <ctime>

#include "agent/guards.h"
#include "proto/codec.h"
#include "sys/cgroup_handle.h"

namespace procguard::agent {
namespace {

constexpr core::Ns kAskingThreads = 2 * core::kMillisecond;
// A client looks for the next agent every second.
constexpr core::Ns kClientComesBack = 10 * core::kSecond;

core::Ns real_now() {
  timespec time{};
  ::clock_gettime(CLOCK_REALTIME, &time);
  return static_cast<core::Ns>(time.tv_sec) * core::kSecond + static_cast<core::Ns>(time.tv_nsec);
}

void put_pids(const std::vector<pid_t>& pids, std::uint32_t& count,
              std::uint32_t (&listed)[proto::kReachedPids]) {
  count = static_cast<std::uint32_t>(pids.size());
  for (std::size_t i = 0; i < pids.size() && i < proto::kReachedPids; ++i) {
    listed[i] = static_cast<std::uint32_t>(pids[i]);
  }
}

}  // namespace

void Guards::on_event(const pg_guard& guard, const pg_event& event,
                      const engine::Outcome* outcome) {
  proto::EventBody body;
  body.real_ns = real_now();
  body.event = event;
  body.scope = guard.scope;
  body.owner_uid = guard.owner_uid;
  body.mode = guard.mode;
  if (event.resource < PG_RESOURCES) {
    body.over_since_ns = guard.limit[event.resource].over_since_ns;
    body.base = guard.limit[event.resource].base;
  }
  if (outcome != nullptr) {
    put_pids(outcome->reached, body.reached, body.reached_pids);
    put_pids(outcome->refused, body.refused, body.refused_pids);
  }
  const proto::EventBody& kept = events_.add(body);
  log_.event(kept);
  if (news_) {
    news_(kept);
  }
  if (event.kind == PG_EVENT_TARGET_EXITED) {
    over_.push_back(guard.id);
  }
}

void Guards::tell(pg_event event) {
  event.abi = PG_ABI;
  event.resource = PG_RESOURCES;
  source_.trace(event);
  on_event(pg_guard{}, event, nullptr);
}

// The controller's release tells of it; what it was is kept from before. To ask all threads of a
// large target takes long: where many guards end at once, the later ones keep the totals of their
// levels.
void Guards::retire() {
  const core::Ns patience = clock_.now() + kAskingThreads;
  while (!over_.empty()) {
    std::vector<std::uint64_t> ids;
    std::swap(ids, over_);
    for (const std::uint64_t id : ids) {
      const pg_guard* guard = controller_->find(id);
      if (guard == nullptr) {
        continue;
      }
      const auto usage =
          clock_.now() < patience ? std::optional(controller_->usage(id)) : std::nullopt;
      proto::ShowBody last = show_of(*guard, usage && *usage ? &usage->value() : nullptr);
      controller_->release(id);
      last.row.guard = *controller_->find(id);
      ended_.add(last, clock_.now());
      forget(id);
    }
  }
}

void Guards::forget(std::uint64_t id) {
  const pg_guard* guard = controller_->find(id);
  const uid_t owner = guard->owner_uid;
  if (auto count = per_uid_.find(owner); count != per_uid_.end() && --count->second == 0) {
    per_uid_.erase(count);
  }
  auto named = by_name_.find({owner, proto::get_text(guard->name)});
  if (named != by_name_.end() && named->second.erase(id) != 0 && named->second.empty()) {
    by_name_.erase(named);
  }
  if (guard->origin == PG_ORIGIN_SESSION) {
    for (auto& [connection, guards] : of_connection_) {
      guards.erase(id);
    }
  }
  if ((guard->flags & PG_GUARD_HELD) != 0) {
    for (auto& [connection, guards] : held_) {
      guards.erase(id);
    }
  }
  source_.programs().put_labels(id, "");
  controller_->forget(id);
}

bool Guards::may_signal(const engine::Target& target, pid_t pid) const {
  const auto now = targets_.status(pid);
  return now && (now->real_uid == target.owner_uid || now->saved_uid == target.owner_uid);
}

bool Guards::target_of(const pg_guard& guard, engine::Target& target) const {
  target.scope = static_cast<pg_scope>(guard.scope);
  target.pid = static_cast<pid_t>(guard.pid);
  target.tid = static_cast<pid_t>(guard.tid);
  target.cgroup_id = guard.cgroup_id;
  target.owner_uid = guard.owner_uid;
  target.any_uid = (guard.flags & PG_GUARD_ANY_UID) != 0;
  target.start_ns = guard.target_start_ns;
  if (target.scope != PG_SCOPE_CGROUP) {
    return true;
  }
  const auto mounts = sys::read_cgroup_mounts();
  if (!mounts || !mounts->v2) {
    return false;
  }
  auto path = sys::cgroup_path_of(guard.cgroup_id, mounts->v2->point);
  target.cgroup_path = path ? path.value() : std::string();
  return true;  // a removed one: its watch says so
}

void Guards::adopt_one(const pg_guard& guard) {
  engine::Target target;
  const bool made = guard.phase == PG_GUARD_ARMED || (guard.flags & PG_GUARD_HELD) != 0;
  const bool lives = made && guard.origin != PG_ORIGIN_SESSION && target_of(guard, target) &&
                     source_.adopt(guard.watch, target).ok() &&
                     controller_->adopt(guard, target).ok();
  if (lives) {
    per_uid_[guard.owner_uid]++;
    if (const std::string name = proto::get_text(guard.name); !name.empty()) {
      by_name_[{guard.owner_uid, name}].insert(guard.id);
    }
    if (guard.armed_ns == 0) {
      awaited_.insert(guard.id);
      awaited_until_ = clock_.now() + kClientComesBack;
    }
    return;
  }
  // A session's client has lost its connection and knows; of the others nobody was told yet that
  // they are there, or their watch has ended.
  pg_guard over = guard;
  over.phase = PG_GUARD_RELEASED;
  over.ended_ns = clock_.now();
  source_.publish(over);
  source_.programs().put_labels(guard.id, "");
  if (made) {
    on_event(over, core::make_event(over, PG_EVENT_RELEASED, PG_RESOURCES, clock_.now()), nullptr);
  }
}

// Clients that were to start guards and have not come back: they died in the gap.
void Guards::on_time() {
  if (awaited_until_ <= clock_.now()) {
    begin_held(awaited_);
    awaited_.clear();
    awaited_until_ = core::kNever;
  }
}

std::size_t Guards::adopt_all() {
  auto guards = source_.programs().guards();
  if (!guards) {
    log_.note(Severity::kError, "adopting guards: " + guards.error().message());
    return 0;
  }
  std::sort(guards->begin(), guards->end(),
            [](const pg_guard& one, const pg_guard& other) { return one.id < other.id; });
  std::set<engine::WatchId> adopted;
  for (const pg_guard& guard : guards.value()) {
    if (guard.abi != PG_ABI || guard.size != sizeof(guard)) {
      continue;
    }
    adopt_one(guard);
    if (controller_->find(guard.id) != nullptr) {
      adopted.insert(guard.watch);
    }
  }
  for (const engine::WatchId watch : source_.present()) {
    if (!adopted.contains(watch)) {
      source_.drop(watch);  // a session's, or of a guard that was never told of
    }
  }
  return controller_->size();
}

}  // namespace procguard::agent
