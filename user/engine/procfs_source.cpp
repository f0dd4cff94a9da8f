// SPDX-License-Identifier: Apache-2.0
#include "engine/procfs_source.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <set>
#include <utility>

#include "bpf/account.h"
#include "sys/pidfd.h"

namespace procguard::engine {

namespace {

constexpr core::Ns kLongestWait = 3600 * core::kSecond;

bool adopts_orphans() {
  int subreaper = 0;
  return ::getpid() == 1 || (::prctl(PR_GET_CHILD_SUBREAPER, &subreaper) == 0 && subreaper != 0);
}

ThresholdState state_of(const pg_threshold& threshold) {
  return {.over_since_ns = threshold.over_since_ns,
          .episodes = threshold.episodes,
          .kernel_acted_ns = 0,
          .kernel_acted_pid = 0,
          .set_over_since_ns = threshold.set_over_since_ns};
}

Error no_such_watch(const char* what) {
  return Error(std::string(what) + ": no such watch", ENOENT);
}

}  // namespace

ProcfsOptions default_procfs_options() {
  const long cpus = ::sysconf(_SC_NPROCESSORS_ONLN);
  return {.proc = sys::ProcRoot(),
          .self = ::getpid(),
          .cpus = cpus > 0 ? static_cast<unsigned>(cpus) : 1,
          .adopts_orphans = &adopts_orphans,
          .open_pidfd = &sys::open_pidfd,
          .share_address_space = &sys::share_address_space,
          .stop = [](int pidfd) { static_cast<void>(sys::send_signal(pidfd, SIGSTOP)); }};
}

struct ProcfsSource::Watch {
  struct Point {
    core::Ns at = 0;
    std::uint64_t bytes = 0;
  };

  Watch(const ProcfsOptions& options, ProcfsMembers::Context context, const Target& target)
      : members(std::move(context), target), accounts(options), threads(options) {}

  ProcfsMembers members;
  ProcfsAccounts accounts;
  ProcfsUsage threads;
  ProcfsSums sums;
  Point memory_now;  // how fast memory grows shows between these
  Point memory_before;
  core::Ns begun_at = 0;
  core::Ns looked_at = 0;
  core::Ns check_at = core::kNever;
  pg_threshold memory[2]{};
  pg_threshold cpu{};
  bool had_members = false;
  bool empty = false;
  bool unread = false;  // there is news that drain() has not told of
  sys::Fd cgroup_events;
};

Result<std::unique_ptr<ProcfsSource>> ProcfsSource::create(const core::Clock& clock,
                                                           ProcfsOptions options) {
  sys::Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) {
    return Error::system("epoll_create1", errno);
  }
  return std::unique_ptr<ProcfsSource>(
      new ProcfsSource(clock, std::move(options), std::move(epoll)));
}

ProcfsSource::ProcfsSource(const core::Clock& clock, ProcfsOptions options, sys::Fd epoll)
    : clock_(clock), options_(std::move(options)), epoll_(std::move(epoll)) {}

ProcfsSource::~ProcfsSource() = default;

const char* ProcfsSource::membership() const {
  const bool cgroups =
      !watches_.empty() && std::all_of(watches_.begin(), watches_.end(), [](const auto& watch) {
        return watch.second->members.target().scope == PG_SCOPE_CGROUP;
      });
  return cgroups ? "cgroup" : "subreaper";
}

ProcfsSource::Watch* ProcfsSource::find(WatchId watch) {
  const auto found = watches_.find(watch);
  return found == watches_.end() ? nullptr : found->second.get();
}

Result<WatchId> ProcfsSource::watch(const Target& target) {
  const WatchId id = next_id_++;
  auto added = std::make_unique<Watch>(
      options_,
      ProcfsMembers::Context{.options = options_,
                             .epoll = epoll_.get(),
                             .id = id,
                             .claim_of = [this, id](pid_t pid) { return claim_of(id, pid); }},
      target);
  if (auto began = added->members.begin(); !began) {
    return began.error();
  }
  if (auto followed = follow_cgroup(*added, id); !followed) {
    return followed.error();
  }
  added->accounts.begin(added->members);
  added->threads.begin(added->members);
  added->had_members = !added->members.live().empty();
  added->begun_at = clock_.now();
  added->looked_at = added->begun_at;
  watches_.emplace(id, std::move(added));
  return id;
}

// The kernel says (as "exceptional") when cgroup.events changes.
Result<void> ProcfsSource::follow_cgroup(Watch& watch, WatchId id) const {
  if (!watch.members.cgroup()) {
    return {};
  }
  sys::Fd events(::openat(watch.members.cgroup()->fd(), "cgroup.events", O_RDONLY | O_CLOEXEC));
  if (!events) {
    return {};  // the root has none, and is never empty
  }
  char ignored = 0;  // what it says now is no news
  if (::pread(events.get(), &ignored, 1, 0) < 0) {
    return Error::system("reading cgroup.events", errno);
  }
  epoll_event event{};
  event.events = EPOLLPRI | EPOLLET;  // edges: so it need not be read again
  event.data.u64 = ProcfsMembers::event_data(id, 0);
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, events.get(), &event) != 0) {
    return Error::system("following cgroup.events", errno);
  }
  watch.cgroup_events = std::move(events);
  return {};
}

// Whose is a new child of the host, as far as the other watches know?
ProcfsMembers::Claim ProcfsSource::claim_of(WatchId mine, pid_t pid) const {
  const auto own = watches_.find(mine);
  auto claim = ProcfsMembers::Claim::kFree;
  for (const auto& [id, other] : watches_) {
    const Target& target = other->members.target();
    const bool same_tree = own != watches_.end() && target.pid == own->second->members.target().pid;
    if (id == mine || target.scope == PG_SCOPE_CGROUP || same_tree) {
      continue;
    }
    if (other->members.live().contains(pid)) {
      return ProcfsMembers::Claim::kTaken;
    }
    if (target.scope == PG_SCOPE_TREE) {
      claim = ProcfsMembers::Claim::kUnclear;
    }
  }
  return claim;
}

Result<void> ProcfsSource::set_thresholds(WatchId id, const Thresholds& thresholds) {
  Watch* watch = find(id);
  if (watch == nullptr) {
    return no_such_watch("setting thresholds");
  }
  bool changed[2];
  for (int i = 0; i < 2; ++i) {
    pg_threshold& threshold = watch->memory[i];
    changed[i] = threshold.limit != thresholds.memory[i].bytes;
    if (changed[i]) {
      threshold.limit = thresholds.memory[i].bytes;
      threshold.over_since_ns = 0;  // that was another limit
    }
  }
  watch->cpu.limit = thresholds.cpu_ns;
  if (auto looked = look(*watch); !looked) {
    return looked;
  }
  for (int i = 0; i < 2; ++i) {
    pg_threshold& threshold = watch->memory[i];
    threshold.set_over_since_ns =
        changed[i] ? threshold.over_since_ns : threshold.set_over_since_ns;
  }
  return {};
}

Result<void> ProcfsSource::look(Watch& watch) {
  const core::Ns now = clock_.now();
  watch.looked_at = now;
  const auto refreshed = watch.members.refresh();
  const bool was_empty = watch.empty;
  const bool was_degraded = watch.members.degraded();
  watch.had_members = watch.had_members || !watch.members.live().empty();
  watch.empty = watch.had_members && watch.members.live().empty();
  watch.sums = watch.accounts.update(watch.members);
  if (now >= watch.memory_now.at + options_.min_interval) {
    watch.memory_before = std::exchange(watch.memory_now, {now, watch.sums.memory_bytes});
  }
  // The time of a crossing is when it was seen: after the reading, not before it.
  const bool crossed = compare(watch, clock_.now());
  watch.check_at = next_look(watch, now);
  if (!refreshed) {
    return refreshed.error();
  }
  // Whoever looks, it is news until drain() has told: who asks for levels may not feed them.
  watch.unread = watch.unread || crossed || watch.empty != was_empty ||
                 watch.members.degraded() != was_degraded;
  return {};
}

bool ProcfsSource::compare(Watch& watch, core::Ns now) {
  const auto memory = static_cast<__s64>(watch.sums.memory_bytes);
  const auto cpu = static_cast<__s64>(watch.sums.cpu_ns);
  const int crossed = pg_threshold_update(&watch.memory[0], &memory, now) |
                      pg_threshold_update(&watch.memory[1], &memory, now) |
                      pg_threshold_update(&watch.cpu, &cpu, now);
  return crossed != 0;
}

// --- when to look again -------------------------------------------------------------------------

core::Ns ProcfsSource::next_look(const Watch& watch, core::Ns now) const {
  core::Ns wait = core::kNever;
  if (watch.memory[0].limit != 0 || watch.memory[1].limit != 0) {
    wait = memory_wait(watch, now);
  }
  if (watch.cpu.limit != 0 && watch.cpu.over_since_ns == 0) {  // what is used stays used
    wait = std::min(wait, cpu_wait(watch));
  }
  return wait == core::kNever ? core::kNever : now + wait;
}

void ProcfsSource::set_check_interval(core::Ns interval) {
  options_.check_interval = interval;
  options_.min_interval = std::min(options_.min_interval, interval);
}

// Half the time to the limit at the present growth; and not yet seldom when it has just begun,
// which is when programs grow.
core::Ns ProcfsSource::memory_wait(const Watch& watch, core::Ns now) const {
  const std::uint64_t level = watch.sums.memory_bytes;
  const Watch::Point& before = watch.memory_before;
  core::Ns wait = std::min(options_.check_interval, now - std::min(now, watch.begun_at));
  if (level > before.bytes && now > before.at) {
    const double rate =
        static_cast<double>(level - before.bytes) / static_cast<double>(now - before.at);
    for (const auto& threshold : watch.memory) {
      const double left =
          threshold.limit > level ? static_cast<double>(threshold.limit - level) / rate / 2 : 1e18;
      wait = left < static_cast<double>(wait) ? static_cast<core::Ns>(left) : wait;
    }
  }
  return std::max(wait, options_.min_interval);
}

// The earliest moment the budget can run out: all CPUs for the target from now on.
core::Ns ProcfsSource::cpu_wait(const Watch& watch) const {
  const core::Ns left =
      watch.cpu.limit > watch.sums.cpu_ns ? watch.cpu.limit - watch.sums.cpu_ns : 0;
  return std::clamp(left / std::max(options_.cpus, 1U), options_.min_interval, kLongestWait);
}

core::Ns ProcfsSource::next_check(core::Ns) {
  core::Ns next = core::kNever;
  for (const auto& [id, watch] : watches_) {
    next = std::min(next, watch->unread ? core::Ns{0} : watch->check_at);
  }
  return next;
}

// Takes what the kernel told: who ended is booked. Somebody may be left that was not known of where
// nobody is known any more, which wants a look; but not one for each process of a fork storm.
void ProcfsSource::take_events() {
  std::array<epoll_event, 64> events;
  const int count = ::epoll_wait(epoll_.get(), events.data(), events.size(), 0);
  for (int i = 0; i < count; ++i) {
    const std::uint64_t data = events[static_cast<std::size_t>(i)].data.u64;
    Watch* watch = find(data >> 32U);
    if (watch == nullptr) {
      continue;
    }
    const auto pid = static_cast<pid_t>(data & UINT32_MAX);
    if (pid == 0) {
      watch->check_at = 0;
      continue;
    }
    watch->members.ended(pid);
    watch->accounts.settle(watch->members);
    if (watch->members.live().empty()) {
      const bool alone = watch->members.target().scope != PG_SCOPE_TREE;
      const core::Ns at = alone ? 0 : watch->looked_at + options_.min_interval;
      watch->check_at = std::min(watch->check_at, at);
    }
  }
}

std::vector<WatchId> ProcfsSource::drain() {
  take_events();
  std::set<WatchId> due;
  const core::Ns now = clock_.now();
  for (const auto& [id, watch] : watches_) {
    if (watch->check_at <= now || watch->unread) {
      due.insert(id);
    }
  }
  std::vector<WatchId> worth_reading;
  for (const WatchId id : due) {
    Watch* watch = find(id);
    if (watch == nullptr) {
      continue;
    }
    const auto looked = look(*watch);
    const bool news = std::exchange(watch->unread, false);
    if (!looked || news) {
      worth_reading.push_back(id);
    }
  }
  return worth_reading;
}

// --- what is there ------------------------------------------------------------------------------

Result<Levels> ProcfsSource::levels(WatchId id) {
  Watch* watch = find(id);
  if (watch == nullptr) {
    return no_such_watch("reading levels");
  }
  if (auto looked = look(*watch); !looked) {
    return looked.error();
  }
  Levels levels;
  levels.memory_bytes = watch->sums.memory_bytes;
  levels.memory_plain_bytes = watch->sums.memory_plain_bytes;
  levels.memory_peak_bytes = watch->sums.memory_peak_bytes;
  levels.memory_plain_peak_bytes = watch->sums.memory_plain_peak_bytes;
  levels.cpu_ns = watch->sums.cpu_ns;
  levels.processes = watch->members.live().size();
  levels.empty = watch->empty;
  levels.degraded = watch->members.degraded();
  levels.memory[0] = state_of(watch->memory[0]);
  levels.memory[1] = state_of(watch->memory[1]);
  levels.cpu = state_of(watch->cpu);
  return levels;
}

Result<std::vector<Member>> ProcfsSource::members(WatchId id) {
  Watch* watch = find(id);
  if (watch == nullptr) {
    return no_such_watch("listing members");
  }
  if (auto refreshed = watch->members.refresh(); !refreshed) {
    return refreshed.error();
  }
  watch->accounts.settle(watch->members);
  watch->had_members = watch->had_members || !watch->members.live().empty();
  std::vector<Member> members;
  for (const auto& [pid, member] : watch->members.live()) {
    members.push_back({.pid = pid,
                       .start_ns = sys::ticks_to_ns(member.start_ticks),
                       .kernel_signalled = {false, false}});
  }
  return members;
}

Result<sys::Fd> ProcfsSource::open_member(WatchId id, const Member& member) {
  Watch* watch = find(id);
  if (watch == nullptr) {
    return no_such_watch("opening a member");
  }
  return watch->members.open(member.pid, member.start_ns);
}

void ProcfsSource::doom(WatchId id) {
  if (Watch* watch = find(id)) {
    watch->members.doom();
  }
}

Result<Usage> ProcfsSource::usage(WatchId id) {
  Watch* watch = find(id);
  if (watch == nullptr) {
    return no_such_watch("reading usage");
  }
  if (auto looked = look(*watch); !looked) {
    return looked.error();
  }
  return watch->threads.read(watch->members, watch->sums.cpu_ns);
}

void ProcfsSource::release(WatchId id) {
  watches_.erase(id);
}

}  // namespace procguard::engine
