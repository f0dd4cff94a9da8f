// SPDX-License-Identifier: Apache-2.0
#include "engine/bpf_source.h"

#include <cerrno>

#include "bpf/account.h"
#include "core/event_text.h"
#include "engine/shared_memory.h"
#include "sys/procfs_parse.h"

namespace procguard::engine {
namespace {

using kernel::Group;

// For the next that is doomed.
constexpr core::Ns kDoomStays = 1 * core::kSecond;

std::uint32_t slot_of(WatchId watch) {
  return static_cast<std::uint32_t>(watch);
}

ThresholdState state_of(const pg_threshold& threshold) {
  ThresholdState state;
  state.over_since_ns = load(threshold.over_since_ns);
  state.episodes = load(threshold.episodes);
  state.kernel_acted_ns = load(threshold.acted_ns);
  // The kernel may signal several members of an episode; it is news once.
  state.kernel_acted =
      state.kernel_acted_ns != threshold.seen_acted_ns && state.episodes != threshold.seen_episode;
  state.kernel_acted_pid = load(threshold.acted_pid);
  state.limit = threshold.limit;
  state.kernel_signal = load(threshold.signal);
  state.set_over_since_ns = threshold.set_over_since_ns;
  return state;
}

// Puts a limit in force and compares the level with it; the kernel may do the same at the same
// time. Being over another limit has nothing to do with this one: with that it ends. The signal
// comes last, for crossings of this limit only.
void put(pg_threshold& threshold, std::uint64_t limit, std::uint32_t signal, const __s64& level,
         core::Ns now) {
  const bool changed = threshold.limit != limit;
  if (changed) {
    store(threshold.signal, __u32{0});
    store(threshold.limit, __u64{0});
    pg_threshold_update(&threshold, &level, now);
    store(threshold.limit, static_cast<__u64>(limit));
  }
  pg_threshold_update(&threshold, &level, now);
  if (changed) {
    threshold.set_over_since_ns = load(threshold.over_since_ns);
  }
  store(threshold.signal, static_cast<__u32>(signal));
}

pg_enrol enrol_request(WatchId watch, const Target& target) {
  pg_enrol request{};
  request.watch = watch;
  request.tgid = static_cast<__u32>(target.pid);
  request.tid = static_cast<__u32>(target.tid);
  return request;
}

// The one process that is asked for; 0: it may be many.
std::uint32_t only_of(const Target& target) {
  const bool one = target.scope == PG_SCOPE_THREAD || target.scope == PG_SCOPE_PROCESS;
  return one ? static_cast<std::uint32_t>(target.pid) : 0;
}

}  // namespace

Result<std::unique_ptr<BpfSource>> BpfSource::create(const core::Clock& clock,
                                                     const BpfSourceOptions& options) {
  kernel::LoadOptions load_options = options.load;
  load_options.memory = load_options.memory || options.account_memory;
  auto programs = kernel::Programs::load(load_options);
  if (!programs) {
    return programs.error();
  }
  return over(clock, std::move(programs).value(), options.account_memory, options.account_time);
}

Result<std::unique_ptr<BpfSource>> BpfSource::over(const core::Clock& clock,
                                                   std::unique_ptr<kernel::Programs> programs,
                                                   bool account_memory, bool account_time) {
  std::unique_ptr<BpfSource> source(new BpfSource(clock, std::move(programs)));
  source->account_memory_ = account_memory;
  source->account_time_ = account_time;
  if (auto attached = source->attach(); !attached) {
    return attached.error();
  }
  return source;
}

std::unique_ptr<BpfSource> BpfSource::idle(const core::Clock& clock,
                                           std::unique_ptr<kernel::Programs> programs) {
  std::unique_ptr<BpfSource> source(new BpfSource(clock, std::move(programs)));
  if (source->programs_->attached(Group::kDoom)) {
    source->doom_ends_ = clock.now() + kDoomStays;  // unless somebody doomed is adopted
  }
  return source;
}

Result<void> BpfSource::attach() {
  std::vector<Group> groups{Group::kLifecycle};
  if (account_time_) {
    groups.push_back(Group::kScheduler);
  }
  if (account_memory_) {
    groups.push_back(Group::kMemory);
  }
  for (Group group : groups) {
    if (auto attached = programs_->attach(group); !attached) {
      return attached.error();
    }
  }
  return {};
}

void BpfSource::detach() {
  for (const Group group :
       {Group::kFailsafe, Group::kDoom, Group::kMemory, Group::kScheduler, Group::kLifecycle}) {
    programs_->detach(group);
  }
  doom_ends_ = core::kNever;
  memory_read_.clear();
  programs_->clear();
}

pg_watch* BpfSource::find(WatchId watch) {
  auto watches = programs_->watches();
  if (watch == 0 || slot_of(watch) >= watches.size() || watches[slot_of(watch)].id != watch) {
    return nullptr;
  }
  return &watches[slot_of(watch)];
}

// Fills a free slot; its id comes last, so that the kernel sees all of it or nothing. Slots take
// turns: a hook on another CPU may still be taking a member out of the watch that was released
// last.
Result<WatchId> BpfSource::allocate(const Target& target) {
  auto watches = programs_->watches();
  for (std::size_t i = 0; i < watches.size(); i++) {
    const std::size_t slot = (next_slot_ + i) % watches.size();
    pg_watch& watch = watches[slot];
    if (watch.id != 0) {
      continue;
    }
    watch = pg_watch{};
    watch.scope = target.scope;
    watch.cgroup_id = target.cgroup_id;
    watch.owner_uid = target.owner_uid;
    watch.flags = target.any_uid ? __u32{PG_WATCH_ANY_UID} : 0U;
    const std::uint32_t generation = ++programs_->agent().watch_generation;
    WatchId id = (static_cast<WatchId>(generation) << 32U) | slot;
    store(watch.id, static_cast<__u64>(id));
    next_slot_ = slot + 1;
    return id;
  }
  return Error("no free watch: all " + std::to_string(watches.size()) + " are in use", ENOSPC);
}

// The kernel finds one watch by a cgroup, so guards of one owner share it, and a second owner would
// take it away from the first.
Result<void> BpfSource::check_free(const Target& target) const {
  if (target.scope != PG_SCOPE_CGROUP) {
    return {};
  }
  for (const auto& [other, theirs] : targets_) {
    if (theirs.scope != PG_SCOPE_CGROUP || theirs.cgroup_id != target.cgroup_id) {
      continue;
    }
    const std::string what = "cgroup '" + sys::printable(target.cgroup_path) + "' ";
    if (theirs.owner_uid != target.owner_uid || theirs.any_uid != target.any_uid) {
      return Error(what + "is guarded for another owner, uid " + std::to_string(theirs.owner_uid),
                   EBUSY);
    }
    return Error(what + "is being ended for another guard", EBUSY);
  }
  return {};
}

Result<WatchId> BpfSource::watch(const Target& target) {
  if (auto free = check_free(target); !free) {
    return free.error();
  }
  auto id = allocate(target);
  if (!id) {
    return id;
  }
  WatchId watch = id.value();
  targets_[watch] = target;
  if (target.scope == PG_SCOPE_CGROUP) {
    // Known to the hooks before the tasks in it are enrolled: nobody moves in unseen between.
    if (auto added = programs_->add_cgroup(target.cgroup_id, watch); !added) {
      release(watch);
      return added.error();
    }
  }
  if (auto enrolled = enrol(watch, target); !enrolled) {
    release(watch);
    return enrolled.error();
  }
  if (target.scope != PG_SCOPE_CGROUP && find(watch)->processes == 0) {
    const bool no_room = (load(find(watch)->flags) & PG_WATCH_DEGRADED) != 0;
    release(watch);
    return Error::system("watching process " + std::to_string(target.pid),
                         no_room ? ENOSPC : ESRCH);
  }
  return watch;
}

// A group goes on without a process that is being made for too long.
Result<void> BpfSource::enrol(WatchId watch, const Target& target) {
  auto enrolled = programs_->enrol(enrol_request(watch, target), only_of(target));
  if (!enrolled && enrolled.error().code() == EAGAIN && only_of(target) == 0) {
    __atomic_fetch_or(&find(watch)->flags, static_cast<__u32>(PG_WATCH_DEGRADED), __ATOMIC_SEQ_CST);
    return {};
  }
  return enrolled;
}

Result<void> BpfSource::set_thresholds(WatchId id, const Thresholds& thresholds) {
  pg_watch* watch = find(id);
  if (watch == nullptr) {
    return Error("setting thresholds: no such watch", ENOENT);
  }
  if (thresholds.memory[0].bytes != 0 || thresholds.memory[1].bytes != 0) {
    if (auto read = read_memory(id); !read) {
      return read;
    }
  }
  const core::Ns now = clock_.now();
  for (int i = 0; i < 2; i++) {
    const Thresholds::Memory& wanted = thresholds.memory[i];
    put(watch->memory[i], wanted.bytes, wanted.kernel_signal, watch->memory_bytes, now);
  }
  put(watch->cpu, thresholds.cpu_ns, 0, watch->cpu_ns, now);
  return {};
}

Result<void> BpfSource::read_memory(WatchId id) {
  if (memory_read_.contains(id)) {
    return {};
  }
  if (auto attached = programs_->attach(Group::kMemory); !attached) {
    return attached;
  }
  // What the members grew to before anybody looked. From now on their sums are kept.
  if (auto enrolled = enrol(id, targets_[id]); !enrolled) {
    return enrolled;
  }
  memory_read_.insert(id);
  return {};
}

void BpfSource::acknowledge(WatchId id, int slot, const ThresholdState& seen) {
  if (pg_watch* watch = find(id); watch != nullptr) {
    watch->memory[slot].seen_acted_ns = seen.kernel_acted_ns;
    watch->memory[slot].seen_episode = seen.episodes;
  }
}

void BpfSource::set_failsafe(WatchId id, const Failsafe& wanted) {
  pg_watch* watch = find(id);
  if (watch == nullptr) {
    return;
  }
  pg_failsafe& failsafe = watch->failsafe;
  failsafe.memory_grace_ns = wanted.memory_grace_ns;
  failsafe.due_signal = wanted.due_signal;
  failsafe.cpu_signal = wanted.cpu_signal;
  put(failsafe.memory, wanted.memory_bytes, wanted.memory_signal, watch->memory_bytes,
      clock_.now());
  store(failsafe.cpu_ns, static_cast<__u64>(wanted.cpu_ns));
  store(failsafe.due_ns, static_cast<__u64>(wanted.due_ns));
  if (wanted != Failsafe{}) {
    // Without the program the kernel reaches nobody who sleeps: the next agent does, late.
    static_cast<void>(programs_->attach(Group::kFailsafe));
  }
}

void BpfSource::acknowledge_failsafe(WatchId id) {
  if (pg_watch* watch = find(id); watch != nullptr) {
    store(watch->failsafe.acted_ns, __u64{0});
  }
}

Result<Levels> BpfSource::levels(WatchId id) {
  pg_watch* watch = find(id);
  if (watch == nullptr) {
    return Error("reading levels: no such watch", ENOENT);
  }
  Levels levels;
  levels.memory_bytes = at_least_zero(load(watch->memory_bytes));
  levels.memory_plain_bytes = at_least_zero(load(watch->memory_plain_bytes));
  levels.memory_peak_bytes = at_least_zero(load(watch->memory_peak_bytes));
  levels.memory_plain_peak_bytes = at_least_zero(load(watch->memory_plain_peak_bytes));
  levels.cpu_ns = at_least_zero(load(watch->cpu_ns));
  levels.processes = at_least_zero(load(watch->processes));
  std::uint32_t flags = load(watch->flags);
  levels.empty = (flags & PG_WATCH_EMPTY) != 0;
  levels.removed = (flags & PG_WATCH_REMOVED) != 0;
  levels.degraded = (flags & PG_WATCH_DEGRADED) != 0;
  levels.doomed = (flags & PG_WATCH_DOOMED) != 0;
  levels.memory[0] = state_of(watch->memory[0]);
  levels.memory[1] = state_of(watch->memory[1]);
  levels.cpu = state_of(watch->cpu);
  levels.failsafe_acted_ns = load(watch->failsafe.acted_ns);
  levels.failsafe_acted_pid = watch->failsafe.acted_pid;
  levels.failsafe_resource = watch->failsafe.acted_resource;
  return levels;
}

Result<void> BpfSource::adopt(WatchId id, const Target& target) {
  pg_watch* watch = find(id);
  if (watch == nullptr) {
    return Error("adopting a watch: no such watch", ENOENT);
  }
  targets_[id] = target;
  // Who died between taking a record out of the ring and saying so would be the last who was told.
  store(watch->edge_unread, __u32{0});
  if ((load(watch->flags) & PG_WATCH_DOOMED) != 0) {
    doom(id);
  }
  if (watch->memory[0].limit != 0 || watch->memory[1].limit != 0) {
    memory_read_.insert(id);
  }
  return {};
}

std::vector<WatchId> BpfSource::present() {
  std::vector<WatchId> ids;
  for (const pg_watch& watch : programs_->watches()) {
    if (const WatchId id = load(watch.id); id != 0) {
      ids.push_back(id);
    }
  }
  return ids;
}

const __s64* BpfSource::memory_level(WatchId id) {
  pg_watch* watch = find(id);
  return watch == nullptr ? nullptr : &watch->memory_bytes;
}

void BpfSource::take_over(WatchId id) {
  if (pg_watch* watch = find(id); watch != nullptr) {
    for (pg_threshold& threshold : watch->memory) {
      store(threshold.closed_episode, load(threshold.episodes));
    }
  }
}

// The program comes beside what is to be signalled now, a little later. Without it the sweeps of
// user space have to do; they converge more slowly.
void BpfSource::doom(WatchId id) {
  pg_watch* watch = find(id);
  if (watch == nullptr) {
    return;
  }
  __atomic_fetch_or(&watch->flags, static_cast<__u32>(PG_WATCH_DOOMED), __ATOMIC_SEQ_CST);
  doom_ends_ = core::kNever;
  doom_wanted_ = !programs_->attached(Group::kDoom) && !programs_->attach_aside(Group::kDoom);
}

void BpfSource::end_doom(WatchId id) {
  pg_watch* watch = find(id);
  if (watch == nullptr || (load(watch->flags) & PG_WATCH_DOOMED) == 0) {
    return;
  }
  __atomic_fetch_and(&watch->flags, ~static_cast<__u32>(PG_WATCH_DOOMED), __ATOMIC_SEQ_CST);
  for (const auto& [other, target] : targets_) {
    const pg_watch* left = find(other);
    if (left != nullptr && (load(left->flags) & PG_WATCH_DOOMED) != 0) {
      return;
    }
  }
  doom_ends_ = core::saturating_add(clock_.now(), kDoomStays);
}

// Told everything, it has nothing to check; but the host asks before it sleeps.
core::Ns BpfSource::next_check(core::Ns now) {
  if (doom_wanted_) {
    doom_wanted_ = !programs_->attach_aside(Group::kDoom);
  }
  if (doom_ends_ <= now) {
    doom_ends_ = programs_->detach_aside(Group::kDoom) ? core::kNever
                                                       : core::saturating_add(now, kDoomStays);
  }
  return doom_ends_;
}

// The memberships that still name the watch are void: its id is gone.
void BpfSource::release(WatchId id) {
  end_doom(id);
  free_slot(id);
  targets_.erase(id);
  memory_read_.erase(id);
}

void BpfSource::free_slot(WatchId id) {
  pg_watch* watch = find(id);
  if (watch == nullptr) {
    return;
  }
  if (watch->scope == PG_SCOPE_CGROUP) {
    programs_->remove_cgroup(watch->cgroup_id);
  }
  store(watch->id, __u64{0});
}

std::vector<WatchId> BpfSource::drain() {
  std::set<WatchId> touched;
  std::size_t malformed =
      programs_->consume([&touched](const pg_edge& edge) { touched.insert(edge.watch); });
  std::uint64_t lost = load(programs_->losses().edges);
  if (malformed > 0 || lost != losses_seen_) {
    losses_seen_ = lost;
    for (const auto& [id, target] : targets_) {
      touched.insert(id);
    }
  }
  std::vector<WatchId> ready;
  for (WatchId id : touched) {
    if (pg_watch* watch = find(id); watch != nullptr) {
      store(watch->edge_unread, __u32{0});  // before the levels are read
      ready.push_back(id);
    }
  }
  return ready;
}

void BpfSource::trace(const pg_event& event) {
  programs_->trace("procguard: " + core::event_text(event));
  programs_->tell(event);
}

}  // namespace procguard::engine
