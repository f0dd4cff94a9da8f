// SPDX-License-Identifier: Apache-2.0
// What clients ask for.
#include "agent/guards.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "proto/codec.h"
#include "sys/procfs_parse.h"

namespace procguard::agent {
namespace {

using proto::Status;

core::GuardSpec spec_of(const Asker& asker, const proto::AttachBody& wanted) {
  core::GuardSpec spec;
  spec.name = proto::get_text(wanted.name);
  spec.scope = static_cast<pg_scope>(wanted.scope);
  spec.mode = (wanted.flags & proto::kMonitor) != 0 ? PG_MODE_MONITOR : PG_MODE_ENFORCE;
  spec.owner_uid = asker.uid;
  spec.timeout_ns = wanted.limit[PG_TIMEOUT];
  spec.cpu_ns = wanted.limit[PG_CPU];
  spec.memory_bytes = wanted.limit[PG_MEMORY];
  spec.memory_growth_bytes = wanted.limit[PG_MEMORY_GROWTH];
  spec.grace_ns = wanted.grace_ns;
  spec.step_grace_ns = wanted.step_grace_ns;
  spec.ladder.assign(wanted.ladder, wanted.ladder + wanted.steps);
  spec.flags = ((wanted.flags & proto::kFailsafe) != 0 ? std::uint32_t{PG_GUARD_FAILSAFE} : 0U) |
               ((wanted.flags & proto::kHeld) != 0 ? std::uint32_t{PG_GUARD_HELD} : 0U);
  spec.origin = (wanted.flags & proto::kSession) != 0 ? PG_ORIGIN_SESSION : PG_ORIGIN_ATTACH;
  return spec;
}

// Which status says what an errno of the engine means to a client.
Denial denial_of(const Error& error) {
  switch (error.code()) {
    case ESRCH:
    case ENOENT:
    case ENODEV:
      return {.status = Status::kNotFound, .text = error.message()};
    case ENOSPC:
    case E2BIG:
    case EBUSY:
    case EAGAIN:
      return {.status = Status::kBusy, .text = error.message()};
    case EPERM:
    case EACCES:
      return {.status = Status::kNotPermitted, .text = error.message()};
    case 0:
    case EINVAL:
    case EALREADY:
      return {.status = Status::kInvalid, .text = error.message()};
    default:
      return {.status = Status::kUnsupported, .text = error.message()};
  }
}

Denial no_such_guard(const proto::RefBody& which) {
  const std::string what = which.id != 0 ? "g" + std::to_string(which.id)
                                         : "'" + sys::printable(proto::get_text(which.name)) + "'";
  return {.status = Status::kNotFound, .text = "guard " + what + ": no such guard"};
}

}  // namespace

std::optional<Denial> Guards::attach(const Asker& asker, const proto::AttachBody& wanted,
                                     sys::Fd fd, std::uint64_t owner, proto::ArmedBody& armed) {
  if (auto denied = check_form(wanted)) {
    return denied;
  }
  if ((wanted.flags & proto::kHasFd) == 0) {
    if (auto denied = check_number(asker)) {
      return denied;
    }
  }
  // What does not fit into the map would not be there for the next agent.
  const std::size_t most =
      std::min<std::size_t>(config_.max_guards, source_.programs().guards_max());
  if (controller_->size() >= most) {
    return Denial{.status = Status::kBusy,
                  .text = "all " + std::to_string(most) + " guards are in use"};
  }
  HeldTarget held;
  if (auto denied = targets_.resolve(wanted, std::move(fd), held)) {
    return denied;
  }
  if (auto denied = asker.root() ? std::nullopt : targets_.look_at_owner(held)) {
    return denied;
  }
  if (auto denied = check_attach(asker, held.facts, wanted, config_.ceiling, per_uid_[asker.uid])) {
    return denied;
  }
  held.target.owner_uid = asker.uid;
  held.target.any_uid = asker.root();
  std::uint64_t id = 0;
  if (auto denied = arm(spec_of(asker, wanted), held, wanted, id)) {
    return denied;
  }
  if ((wanted.flags & proto::kSession) != 0) {
    of_connection_[owner].insert(id);
  }
  if ((wanted.flags & proto::kHeld) != 0) {
    held_[owner].insert(id);
  }
  const pg_guard* guard = controller_->find(id);
  armed = {.id = id, .target_start_ns = guard->target_start_ns, .pid = guard->pid, .padding = 0};
  return std::nullopt;
}

std::optional<Denial> Guards::arm(const core::GuardSpec& spec, const HeldTarget& held,
                                  const proto::AttachBody& wanted, std::uint64_t& id) {
  if (auto attached = source_.attach(); !attached) {
    return Denial{.status = Status::kUnsupported, .text = attached.error().message()};
  }
  auto guard = controller_->arm(spec, held.target);
  if (!guard) {
    return denial_of(guard.error());
  }
  id = guard.value();
  source_.programs().agent().next_guard = id + 1;
  // Watched; now, is the descriptor's process still what is watched? Its pid cannot have been
  // another's while it lives.
  auto denied = targets_.still_there(held);
  if (!denied && (wanted.flags & proto::kHeld) == 0) {
    if (auto started = controller_->start(id, 0); !started) {
      denied = denial_of(started.error());
    }
  }
  if (denied) {
    controller_->release(id);
    controller_->forget(id);
    return denied;
  }
  per_uid_[spec.owner_uid]++;
  if (!spec.name.empty()) {
    by_name_[{spec.owner_uid, spec.name}].insert(id);
  }
  if (const std::string labels = proto::get_text(wanted.labels); !labels.empty()) {
    source_.programs().put_labels(id, labels);
  }
  return std::nullopt;
}

std::optional<Denial> Guards::find(const Asker& asker, const proto::RefBody& which,
                                   std::uint64_t& id) {
  id = which.id;
  if (id == 0) {
    const std::string name = proto::get_text(which.name);
    auto named = by_name_.find({asker.uid, name});
    if (named == by_name_.end() && asker.root()) {
      named = std::find_if(by_name_.begin(), by_name_.end(),
                           [&name](const auto& each) { return each.first.second == name; });
    }
    if (named == by_name_.end()) {
      return no_such_guard(which);
    }
    id = *named->second.rbegin();
  }
  const pg_guard* guard = controller_->find(id);
  if (guard == nullptr) {
    return no_such_guard(which);
  }
  return check_owner(asker, guard->owner_uid, id);
}

std::optional<Denial> Guards::start(const Asker& asker, const proto::StartBody& which) {
  std::uint64_t id = 0;
  if (auto denied = find(asker, {.id = which.id, .name = {}}, id)) {
    return denied;
  }
  auto started = begin(id, which.at_ns);
  return started ? std::nullopt : std::optional<Denial>(denial_of(started.error()));
}

// A guard's clocks start at this time, or (0) at its target's exec.
Result<void> Guards::begin(std::uint64_t id, core::Ns at_ns) {
  const pg_guard* guard = controller_->find(id);
  const core::Ns executed = source_.exec_time(guard->watch, static_cast<pid_t>(guard->pid));
  return controller_->start(id, at_ns != 0 ? at_ns : executed);
}

void Guards::begin_held(const std::set<std::uint64_t>& ids) {
  for (const std::uint64_t id : ids) {
    const pg_guard* guard = controller_->find(id);
    if (guard != nullptr && guard->armed_ns == 0) {
      static_cast<void>(begin(id, 0));  // else its target has gone, and it with it
    }
  }
}

std::optional<Denial> Guards::set(const Asker& asker, const proto::SetBody& wanted,
                                  std::uint64_t& id) {
  if (auto denied = find(asker, wanted.guard, id)) {
    return denied;
  }
  if (auto denied = check_limits(asker, wanted.limit, config_.ceiling)) {
    return denied;
  }
  if (std::all_of(std::begin(wanted.limit), std::end(wanted.limit),
                  [](std::uint64_t limit) { return limit == 0; })) {
    return Denial{.status = Status::kInvalid, .text = "no limit to set"};
  }
  for (std::uint32_t r = 0; r < PG_RESOURCES; ++r) {
    if (wanted.limit[r] == 0) {
      continue;
    }
    auto set = controller_->set_limit(id, static_cast<pg_resource>(r), wanted.limit[r]);
    if (!set) {
      return denial_of(set.error());
    }
  }
  return std::nullopt;
}

std::optional<Denial> Guards::act(const Asker& asker, const proto::RefBody& which, Verb verb,
                                  std::uint64_t& id) {
  if (auto denied = find(asker, which, id)) {
    return denied;
  }
  switch (verb) {
    case Verb::kPause:
      controller_->pause(id);
      break;
    case Verb::kResume:
      controller_->resume(id);
      break;
    case Verb::kProgress:
      controller_->progress(id);
      break;
    case Verb::kRelease:
      over_.push_back(id);
      break;
  }
  return std::nullopt;
}

std::optional<Denial> Guards::show(const Asker& asker, const proto::RefBody& which,
                                   proto::ShowBody& shown,
                                   std::vector<proto::ThreadBody>& threads) {
  std::uint64_t id = 0;
  auto denied = find(asker, which, id);
  if (denied && denied->status == Status::kNotFound) {
    const auto owner = asker.root() ? std::nullopt : std::optional(asker.uid);
    const proto::ShowBody* over =
        which.id != 0 ? ended_.find(which.id) : ended_.find(proto::get_text(which.name), owner);
    if (over == nullptr) {
      return denied;
    }
    shown = *over;
    return check_owner(asker, shown.row.guard.owner_uid, shown.row.guard.id);
  }
  if (denied) {
    return denied;
  }
  auto usage = controller_->usage(id);
  shown = show_of(*controller_->find(id), usage ? &usage.value() : nullptr);
  if (usage) {
    for (const engine::ThreadUsage& thread : usage->threads) {
      proto::ThreadBody body;
      body.pid = static_cast<std::uint32_t>(thread.pid);
      body.tid = static_cast<std::uint32_t>(thread.tid);
      body.state = static_cast<unsigned char>(thread.state);
      body.usage = thread.usage;
      proto::put_text(body.comm, thread.comm);
      threads.push_back(body);
    }
  }
  return std::nullopt;
}

bool Guards::next_row(const Asker& asker, const proto::ListBody& wanted, std::uint64_t after,
                      proto::RowBody& row) {
  for (;;) {
    const pg_guard* live = controller_->next_after(after);
    const proto::ShowBody* over = wanted.ended != 0 ? ended_.next_after(after) : nullptr;
    if (live == nullptr && over == nullptr) {
      return false;
    }
    const bool take_live = live != nullptr && (over == nullptr || live->id < over->row.guard.id);
    const pg_guard& guard = take_live ? *live : over->row.guard;
    after = guard.id;
    if (asker.root() || asker.uid == guard.owner_uid) {
      row = take_live ? row_of(guard) : over->row;
      return true;
    }
  }
}

void Guards::connection_closed(std::uint64_t owner) {
  // Who was to start these has died: his command, if it runs, is not to run without.
  if (auto held = held_.extract(owner)) {
    begin_held(held.mapped());
  }
  auto found = of_connection_.find(owner);
  if (found == of_connection_.end()) {
    return;
  }
  over_.insert(over_.end(), found->second.begin(), found->second.end());
  of_connection_.erase(found);
}

proto::RowBody Guards::row_of(const pg_guard& guard) {
  proto::RowBody row;
  row.guard = guard;
  row.now_ns = clock_.now();
  if (auto levels = controller_->levels(guard.id)) {
    row.cpu_ns = levels->cpu_ns;
    row.memory_bytes = levels->memory_bytes;
    row.memory_peak_bytes = levels->memory_peak_bytes;
    row.processes = levels->processes;
    row.degraded = levels->degraded ? 1 : 0;
  }
  if (guard.pid != 0) {
    if (auto process = source_.programs().process(guard.pid)) {
      proto::put_text(row.comm, proto::get_text(process->comm));
    }
  }
  return row;
}

proto::ShowBody Guards::show_of(const pg_guard& guard, const engine::Usage* usage) {
  proto::ShowBody shown;
  shown.row = row_of(guard);
  if (auto levels = controller_->levels(guard.id)) {
    shown.memory_plain_bytes = levels->memory_plain_bytes;
    shown.memory_plain_peak_bytes = levels->memory_plain_peak_bytes;
  }
  shown.usage.cpu_ns = shown.row.cpu_ns;
  if (usage != nullptr) {
    shown.usage = usage->total;
  }
  shown.exec_ns = source_.exec_time(guard.watch, static_cast<pid_t>(guard.pid));
  proto::put_text(shown.labels, source_.programs().labels(guard.id));
  if (const engine::Target* target = controller_->target(guard.id)) {
    proto::put_text(shown.cgroup, target->cgroup_path);
  }
  return shown;
}

}  // namespace procguard::agent
