// SPDX-License-Identifier: Apache-2.0
#include "engine/bpf_source.h"

#include <cerrno>

#include "bpf/account.h"
#include "core/event_text.h"
#include "sys/pidfd.h"
#include "sys/procfs.h"

namespace procguard::engine {
namespace {

using kernel::Group;

// The kernel writes to what we read.
template <typename T>
T load(const T& shared) {
  return __atomic_load_n(&shared, __ATOMIC_SEQ_CST);
}

template <typename T>
void store(T& shared, T value) {
  __atomic_store_n(&shared, value, __ATOMIC_SEQ_CST);
}

std::uint64_t at_least_zero(__s64 value) {
  return value > 0 ? static_cast<std::uint64_t>(value) : 0;
}

std::uint32_t slot_of(WatchId watch) {
  return static_cast<std::uint32_t>(watch);
}

ThresholdState state_of(const pg_threshold& threshold) {
  return {load(threshold.over_since_ns), load(threshold.episodes), load(threshold.acted_ns),
          load(threshold.acted_pid)};
}

const pg_membership* membership_of(const pg_process& process, WatchId watch) {
  for (const pg_membership& member : process.member) {
    if (member.watch == watch) {
      return &member;
    }
  }
  return nullptr;
}

// Adds the process if it is a live member.
bool add_member(const pg_process& process, const pg_watch& watch, std::vector<Member>& members) {
  const pg_membership* mine = membership_of(process, watch.id);
  if (mine == nullptr || (process.flags & PG_PROCESS_ENDED) != 0) {
    return false;
  }
  // The programs enter no kernel threads.
  Member member{static_cast<pid_t>(process.tgid), process.start_ns, true, {false, false}};
  for (int i = 0; i < 2; i++) {
    std::uint64_t episode = load(watch.memory[i].episodes);
    member.kernel_signalled[i] = episode != 0 && mine->acted_episode[i] == episode;
  }
  members.push_back(member);
  return true;
}

// The letter /proc/PID/stat would show.
char state_letter(const pg_thread& thread) {
  if (thread.off_since_ns == 0 || thread.off_state == PG_OFF_RUNNABLE) {
    return 'R';
  }
  constexpr char kLetters[PG_BLOCKED_STATES] = {'S', 'D', 'T'};
  return kLetters[thread.off_state % PG_BLOCKED_STATES];
}

std::string text_of(const char (&comm)[PG_COMM_LEN]) {
  return {comm, ::strnlen(comm, sizeof(comm))};
}

// What the thread is called now. The entry has its name from when it was made, and threads are
// named by themselves after that.
std::string present_comm(const pg_thread& thread) {
  auto stat =
      sys::ProcRoot().thread_stat(static_cast<pid_t>(thread.tgid), static_cast<pid_t>(thread.tid));
  return stat ? stat->comm : text_of(thread.comm);
}

void add(pg_usage& sum, const pg_usage& part) {
  sum.cpu_ns += part.cpu_ns;
  sum.runnable_wait_ns += part.runnable_wait_ns;
  sum.voluntary_switches += part.voluntary_switches;
  sum.involuntary_switches += part.involuntary_switches;
  for (int i = 0; i < PG_BLOCKED_STATES; i++) {
    sum.blocked_ns[i] += part.blocked_ns[i];
  }
  for (int i = 0; i < PG_RSS_PARTS; i++) {
    sum.grown_bytes[i] += part.grown_bytes[i];
    sum.shrunk_bytes[i] += part.shrunk_bytes[i];
  }
}

pg_enrol enrol_request(WatchId watch, const Target& target) {
  pg_enrol request{};
  request.watch = watch;
  request.tgid = static_cast<__u32>(target.pid);
  request.tid = static_cast<__u32>(target.tid);
  return request;
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
  std::vector<Group> groups{Group::kLifecycle};
  if (account_time) {
    groups.push_back(Group::kScheduler);
  }
  if (account_memory) {
    groups.push_back(Group::kMemory);
  }
  for (Group group : groups) {
    if (auto attached = source->programs_->attach(group); !attached) {
      return attached.error();
    }
  }
  return source;
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
    WatchId id = (static_cast<WatchId>(++generation_) << 32U) | slot;
    store(watch.id, static_cast<__u64>(id));
    next_slot_ = slot + 1;
    return id;
  }
  return Error("no free watch: all " + std::to_string(watches.size()) + " are in use", ENOSPC);
}

Result<WatchId> BpfSource::watch(const Target& target) {
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
  if (auto enrolled = programs_->enrol(enrol_request(watch, target)); !enrolled) {
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

Result<void> BpfSource::set_thresholds(WatchId id, const Thresholds& thresholds) {
  pg_watch* watch = find(id);
  if (watch == nullptr) {
    return Error("setting thresholds: no such watch", ENOENT);
  }
  const bool memory = thresholds.memory[0].bytes != 0 || thresholds.memory[1].bytes != 0;
  if (memory && !memory_read_.contains(id)) {
    if (auto attached = programs_->attach(Group::kMemory); !attached) {
      return attached;
    }
    // What the members grew to before anybody looked. From now on their sums are kept.
    if (auto enrolled = programs_->enrol(enrol_request(id, targets_[id])); !enrolled) {
      return enrolled;
    }
    memory_read_.insert(id);
  }
  for (int i = 0; i < 2; i++) {
    store(watch->memory[i].signal, static_cast<__u32>(thresholds.memory[i].kernel_signal));
    store(watch->memory[i].limit, static_cast<__u64>(thresholds.memory[i].bytes));
  }
  store(watch->cpu.limit, static_cast<__u64>(thresholds.cpu_ns));
  // In force; now the levels as they are. The kernel may do the same at the same time.
  core::Ns now = clock_.now();
  pg_threshold_update(&watch->memory[0], &watch->memory_bytes, now);
  pg_threshold_update(&watch->memory[1], &watch->memory_bytes, now);
  pg_threshold_update(&watch->cpu, &watch->cpu_ns, now);
  return {};
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
  levels.degraded = (flags & PG_WATCH_DEGRADED) != 0;
  levels.memory[0] = state_of(watch->memory[0]);
  levels.memory[1] = state_of(watch->memory[1]);
  levels.cpu = state_of(watch->cpu);
  return levels;
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

Result<std::vector<Member>> BpfSource::members(WatchId id) {
  pg_watch* watch = find(id);
  if (watch == nullptr) {
    return Error("listing members: no such watch", ENOENT);
  }
  std::vector<Member> members;
  // Most targets are one process: no walk, since a signal waits for this.
  if (load(watch->processes) == 1) {
    auto only = programs_->process(static_cast<std::uint32_t>(targets_[id].pid));
    if (only && add_member(*only, *watch, members)) {
      return members;
    }
  }
  auto processes = programs_->processes();
  if (!processes) {
    return processes.error().in("listing members");
  }
  for (const pg_process& process : processes.value()) {
    add_member(process, *watch, members);
  }
  return members;
}

// The kernel removes a process from its index while it still holds its pid. So if the entry is
// there *after* the pidfd was opened, the pid had not been given to anybody else before.
Result<sys::Fd> BpfSource::open_member(WatchId id, const Member& member) {
  if (find(id) == nullptr) {
    return Error("opening a member: no such watch", ENOENT);
  }
  auto pidfd = sys::open_pidfd(member.pid);
  if (!pidfd) {
    return pidfd;
  }
  auto process = programs_->process(static_cast<std::uint32_t>(member.pid));
  if (!process || process->start_ns != member.start_ns || membership_of(*process, id) == nullptr) {
    return Error::system("process " + std::to_string(member.pid) + " as a member", ESRCH);
  }
  return pidfd;
}

void BpfSource::doom(WatchId id) {
  pg_watch* watch = find(id);
  if (watch == nullptr) {
    return;
  }
  // Without the program the sweeps of user space have to do; they converge more slowly.
  if (auto attached = programs_->attach(Group::kDoom); !attached) {
    doom_error_ = attached.error().message();
  }
  __atomic_fetch_or(&watch->flags, static_cast<__u32>(PG_WATCH_DOOMED), __ATOMIC_SEQ_CST);
}

Result<Usage> BpfSource::usage(WatchId id) {
  pg_watch* watch = find(id);
  if (watch == nullptr) {
    return Error("reading usage: no such watch", ENOENT);
  }
  auto members = this->members(id);
  auto threads = programs_->threads();
  if (!members || !threads) {
    return (members ? threads.error() : members.error()).in("reading usage");
  }
  std::set<pid_t> pids;
  for (const Member& member : members.value()) {
    pids.insert(member.pid);
  }
  Usage usage;
  usage.total = watch->ended;
  core::Ns now = clock_.now();
  for (const pg_thread& thread : threads.value()) {
    if (thread.exiting != 0 || !pids.contains(static_cast<pid_t>(thread.tgid)) ||
        (watch->scope == PG_SCOPE_THREAD && thread.watch != id)) {
      continue;
    }
    ThreadUsage part{static_cast<pid_t>(thread.tgid), static_cast<pid_t>(thread.tid),
                     present_comm(thread), state_letter(thread), pg_usage_now(&thread, now)};
    add(usage.total, part.usage);
    usage.threads.push_back(std::move(part));
  }
  usage.total.cpu_ns = at_least_zero(load(watch->cpu_ns));
  if (const pg_ended_thread& ended = watch->largest; ended.tid != 0) {
    usage.threads.push_back({static_cast<pid_t>(ended.tgid), static_cast<pid_t>(ended.tid),
                             text_of(ended.comm), 'X', ended.usage});
  }
  return usage;
}

core::Ns BpfSource::exec_time(WatchId id, pid_t pid) {
  auto process = programs_->process(static_cast<std::uint32_t>(pid));
  const bool member = process && find(id) != nullptr && membership_of(*process, id) != nullptr;
  return member ? process->exec_ns : 0;
}

// The memberships that still name the watch are void: its id is gone.
void BpfSource::release(WatchId id) {
  pg_watch* watch = find(id);
  if (watch == nullptr) {
    return;
  }
  if (watch->scope == PG_SCOPE_CGROUP) {
    programs_->remove_cgroup(watch->cgroup_id);
  }
  store(watch->id, __u64{0});
  targets_.erase(id);
  memory_read_.erase(id);
  for (const pg_watch& other : programs_->watches()) {
    if (other.id != 0 && (other.flags & PG_WATCH_DOOMED) != 0) {
      return;
    }
  }
  programs_->detach(Group::kDoom);
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
}

}  // namespace procguard::engine
