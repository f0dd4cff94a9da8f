// SPDX-License-Identifier: Apache-2.0
#include "engine/procfs_members.h"

#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "sys/pidfd.h"

namespace procguard::engine {

namespace {

// A tree that forks while it is walked is walked again, but not for ever: the next look goes on.
constexpr int kMaxPasses = 4;
constexpr int kMaxPassesDoomed = 256;
// A fork storm leaves thousands of zombies to the host, which waits for them after a look, not
// during it. Children are listed in the order they came; so many dead ones in a row end a pass.
constexpr int kDeadInARow = 256;
constexpr int kDeadInARowDoomed = 32;
constexpr int kMaxAncestors = 1024;
constexpr core::Ns kTick = 10 * core::kMillisecond;  // of /proc's start times

Error gone(pid_t pid) {
  return Error::system("process " + std::to_string(pid), ESRCH);
}

std::uint64_t inode_of(int fd) {
  struct stat status {};
  return ::fstat(fd, &status) == 0 ? status.st_ino : 0;
}

// fd numbers are given out from the lowest: one in the upper half means that half are in use, and
// the rest is the host's.
bool worth_keeping(int fd) {
  rlimit limit{};
  return ::getrlimit(RLIMIT_NOFILE, &limit) == 0 && static_cast<rlim_t>(fd) < limit.rlim_cur / 2;
}

bool descends_from(const sys::ProcRoot& proc, pid_t pid, pid_t ancestor) {
  for (int i = 0; i < kMaxAncestors && pid > 0; ++i) {
    if (pid == ancestor) {
      return true;
    }
    const auto stat = proc.stat(pid);
    if (!stat) {
      return false;
    }
    pid = stat.value().ppid;
  }
  return false;
}

}  // namespace

ProcfsMembers::~ProcfsMembers() {
  while (!live_.empty()) {
    drop(live_.begin());
  }
}

// --- beginning ----------------------------------------------------------------------------------

Result<void> ProcfsMembers::begin() {
  const auto& proc = context_.options.proc;
  // pidfds are of our pid namespace, so the numbers must be, too.
  if (const auto self = proc.self(); self && self.value() != context_.options.self) {
    return Error(proc.path() + " belongs to another pid namespace: it shows this process as " +
                 std::to_string(self.value()) + ", not " + std::to_string(context_.options.self));
  }
  if (const auto uptime = proc.uptime()) {
    begun_at_uptime_ = uptime.value();
  }
  auto began = target_.scope == PG_SCOPE_CGROUP ? begin_cgroup() : begin_tree();
  begun_ = began.ok();
  return began;
}

Result<void> ProcfsMembers::begin_tree() {
  const auto& options = context_.options;
  if (target_.scope == PG_SCOPE_THREAD) {
    const auto thread = options.proc.thread_stat(target_.pid, target_.tid);
    if (!thread) {
      return thread.error().in("watching thread " + std::to_string(target_.tid));
    }
    thread_start_ticks_ = thread.value().start_ticks;
  }
  if (!adopt(target_.pid, [](const sys::Stat&) { return true; })) {
    return gone(target_.pid).in("watching");
  }
  if (target_.scope != PG_SCOPE_TREE) {
    return {};
  }
  orphans_come_ =
      options.adopts_orphans() && descends_from(options.proc, target_.pid, options.self);
  degraded_ = !orphans_come_;
  // Listed before the walk: who is orphaned during it is a new child of the host, and ours.
  const auto before = sys::Children(options.proc).of(options.self);
  walk_down();
  for (const pid_t pid : before ? before.value() : std::vector<pid_t>()) {
    const auto stat = options.proc.stat(pid);
    if (stat && !live_.contains(pid)) {
      not_ours_.emplace(pid, stat.value().start_ticks);
    }
  }
  return {};
}

Result<void> ProcfsMembers::begin_cgroup() {
  auto opened = sys::Cgroup::open_resolved(target_.cgroup_path);
  if (!opened) {
    return opened.error();
  }
  if (target_.cgroup_id != 0 && opened->id() != target_.cgroup_id) {
    return Error::system("cgroup '" + sys::printable(target_.cgroup_path) +
                             "': another one has been made under this path",
                         ENODEV);
  }
  cgroup_.emplace(std::move(opened).value());
  if (const auto mounts = context_.options.proc.mounts()) {
    cgroup_mounts_ = sys::find_cgroup_mounts(mounts.value());
  }
  return refresh_cgroup();
}

// --- looking again ------------------------------------------------------------------------------

Result<void> ProcfsMembers::refresh() {
  drop_ended();
  if (target_.scope == PG_SCOPE_CGROUP) {
    return refresh_cgroup();
  }
  if (target_.scope == PG_SCOPE_TREE) {
    refresh_tree();
  } else if (target_.scope == PG_SCOPE_THREAD && !live_.empty() && !thread_lives()) {
    drop(live_.begin());
  }
  return {};
}

void ProcfsMembers::refresh_tree() {
  for (auto& [pid, member] : live_) {
    stop_doomed(member);
  }
  const int passes = doomed_ ? kMaxPassesDoomed : kMaxPasses;
  for (int pass = 0; pass < passes; ++pass) {
    // Of a doomed tree first the youngest, as long as there are any: they live shortly.
    if (doomed_ && adopt_orphans(kDeadInARowDoomed)) {
      continue;
    }
    const bool below = walk_down();
    const bool orphans = adopt_orphans(kDeadInARow);
    if (!below && !orphans) {
      return;
    }
  }
}

// Adopts the children of all members, and theirs; true if there were any.
bool ProcfsMembers::walk_down() {
  sys::Children children(context_.options.proc);
  std::vector<pid_t> to_visit;
  for (auto& [pid, member] : live_) {
    if (!doomed_ || !member.settled) {
      to_visit.push_back(pid);
    }
    // Known before the list is read. The state is that of one thread: another may go on forking.
    member.settled =
        doomed_ && look(member) && member.stat.state == 'T' && member.stat.threads == 1;
  }
  bool found = false;
  while (!to_visit.empty()) {
    const pid_t parent = to_visit.back();
    to_visit.pop_back();
    const auto of_parent = children.of(parent);
    for (const pid_t pid : of_parent ? of_parent.value() : std::vector<pid_t>()) {
      // Still a child of the parent after the pidfd was opened, and the parent still the member.
      const auto belongs = [&](const sys::Stat& stat) {
        const auto member = live_.find(parent);
        return stat.ppid == parent && member != live_.end() && look(member->second);
      };
      if (!live_.contains(pid) && adopt(pid, belongs)) {
        to_visit.push_back(pid);
        found = true;
      }
    }
  }
  return found;
}

// Adopts the host's new children, down to so many dead ones in a row; true if there were any.
bool ProcfsMembers::adopt_orphans(int dead_in_a_row) {
  if (!orphans_come_) {
    return false;
  }
  const auto& options = context_.options;
  auto children = sys::Children(options.proc).of(options.self);
  if (!children) {
    return false;
  }
  // The youngest are last in the list, and the most likely to be alive still.
  std::reverse(children->begin(), children->end());
  bool found = false;
  int dead = 0;
  for (const pid_t pid : children.value()) {
    if (live_.contains(pid)) {
      continue;
    }
    const auto seen = options.proc.stat(pid);
    if (!seen || seen.value().ended()) {
      if (++dead >= dead_in_a_row) {
        break;
      }
      continue;
    }
    dead = 0;
    if (not_ours_.contains({pid, seen.value().start_ticks})) {
      continue;
    }
    const auto belongs = [&](const sys::Stat& stat) {
      if (stat.ppid != options.self || not_ours_.contains({pid, stat.start_ticks})) {
        return false;
      }
      const Claim claim = context_.claim_of(pid);
      degraded_ = degraded_ || claim == Claim::kUnclear;
      return claim == Claim::kFree;
    };
    found = adopt(pid, belongs) || found;
  }
  return found;
}

Result<void> ProcfsMembers::refresh_cgroup() {
  const auto listed = cgroup_->processes();
  if (!listed) {
    const int code = listed.error().code();
    if (code == ENODEV || code == ENOENT) {
      while (!live_.empty()) {
        drop(live_.begin());
      }
    }
    return listed.error();
  }
  const auto& pids = listed.value();
  for (auto it = live_.begin(); it != live_.end();) {
    const auto here = it++;
    if (!std::binary_search(pids.begin(), pids.end(), here->first)) {
      drop(here);  // it moved out
    }
  }
  for (const pid_t pid : pids) {
    if (!live_.contains(pid)) {
      adopt(pid, [&](const sys::Stat&) { return still_in_cgroup(pid); });
    }
  }
  return {};
}

// --- one process --------------------------------------------------------------------------------

// Makes `pid` a member if it lives and `belongs`, asked once its pidfd is open, says so.
bool ProcfsMembers::adopt(pid_t pid, const std::function<bool(const sys::Stat&)>& belongs) {
  const auto& options = context_.options;
  if (pid == options.self && target_.scope == PG_SCOPE_TREE) {
    return false;
  }
  ProcMember member;
  member.pid = pid;
  auto opened = options.open_pidfd(pid);
  if (opened) {
    member.pidfd = std::move(opened).value();
    member.inode = inode_of(member.pidfd.get());
  } else if (opened.error().code() != EMFILE && opened.error().code() != ENFILE) {
    return false;
  }
  const auto first = options.proc.stat(pid);
  if (!first || first.value().ended()) {
    return false;
  }
  member.start_ticks = first.value().start_ticks;
  member.stat = first.value();
  if (!belongs(first.value())) {
    return false;
  }
  stop_doomed(member);  // at once, it may be about to fork; the pidfd reaches nobody else
  if (!look(member)) {
    return doomed_;  // its children want looking for
  }
  // Who was overlooked at the beginning is not born since.
  member.fresh = begun_ && sys::ticks_to_ns(member.start_ticks) + kTick >= begun_at_uptime_;
  hold(live_.emplace(pid, std::move(member)).first->second);
  return true;
}

void ProcfsMembers::stop_doomed(const ProcMember& member) const {
  if (doomed_ && member.pidfd && target_.scope == PG_SCOPE_TREE) {
    context_.options.stop(member.pidfd.get());
  }
}

// Keeps the pidfd and asks to be told of the end, or lets it go where too many are open.
void ProcfsMembers::hold(ProcMember& member) {
  if (!member.pidfd || !worth_keeping(member.pidfd.get())) {
    member.pidfd.reset();
    return;
  }
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = event_data(context_.id, member.pid);
  ::epoll_ctl(context_.epoll, EPOLL_CTL_ADD, member.pidfd.get(), &event);
}

// Reads its stat anew; false if the process has ended. The pidfd is asked after reading: what was
// read is about this process if it lives even then.
bool ProcfsMembers::look(ProcMember& member) const {
  const auto stat = context_.options.proc.stat(member.pid);
  if (stat && stat.value().start_ticks == member.start_ticks) {
    member.stat = stat.value();
  }
  if (member.pidfd) {
    const auto exited = sys::has_exited(member.pidfd.get());
    return exited && !exited.value();
  }
  return stat && stat.value().start_ticks == member.start_ticks && !stat.value().ended();
}

void ProcfsMembers::drop_ended() {
  for (auto it = live_.begin(); it != live_.end();) {
    const auto here = it++;
    if (!look(here->second)) {
      drop(here);
    }
  }
}

void ProcfsMembers::ended(pid_t pid) {
  const auto member = live_.find(pid);
  if (member != live_.end() && !look(member->second)) {
    drop(member);
  }
}

void ProcfsMembers::drop(std::map<pid_t, ProcMember>::iterator member) {
  if (member->second.pidfd) {
    // Copies of the pidfd may be about, so closing it would not take it out of the set.
    ::epoll_ctl(context_.epoll, EPOLL_CTL_DEL, member->second.pidfd.get(), nullptr);
    member->second.pidfd.reset();
  }
  ended_.push_back(std::move(member->second));
  live_.erase(member);
}

bool ProcfsMembers::still_in_cgroup(pid_t pid) const {
  if (const auto line = context_.options.proc.cgroup(pid)) {
    if (const auto directory = sys::cgroup_directory(cgroup_mounts_, line.value())) {
      return sys::path_is_below(*directory, cgroup_->path()) && cgroup_->still_there();
    }
  }
  const auto contains = cgroup_->contains(pid);
  return contains && contains.value();
}

bool ProcfsMembers::thread_lives() const {
  const auto thread = context_.options.proc.thread_stat(target_.pid, target_.tid);
  return thread && thread.value().start_ticks == thread_start_ticks_ &&
         thread.value().state != 'Z' && thread.value().state != 'X';
}

Result<sys::Fd> ProcfsMembers::open(pid_t pid, core::Ns start_ns) {
  const auto found = live_.find(pid);
  if (found == live_.end() || sys::ticks_to_ns(found->second.start_ticks) != start_ns ||
      !look(found->second)) {
    return gone(pid);
  }
  const ProcMember& member = found->second;
  if (cgroup_ && !still_in_cgroup(pid)) {
    return gone(pid).in("it has left the cgroup");
  }
  if (target_.scope == PG_SCOPE_THREAD && !thread_lives()) {
    return gone(pid).in("thread " + std::to_string(target_.tid));
  }
  if (member.pidfd) {
    return sys::duplicate_fd(member.pidfd.get());
  }
  // Not held: proven once more. A start time alone proves nothing, it is counted in ticks.
  auto opened = context_.options.open_pidfd(pid);
  if (!opened) {
    return opened;
  }
  ProcMember now;
  now.pid = pid;
  now.start_ticks = member.start_ticks;
  now.pidfd = std::move(opened).value();
  const bool same = look(now) && now.stat.start_ticks == member.start_ticks &&
                    (member.inode == 0 || inode_of(now.pidfd.get()) == member.inode);
  const bool descends = target_.scope != PG_SCOPE_TREE || pid == target_.pid ||
                        live_.contains(now.stat.ppid) || now.stat.ppid == context_.options.self;
  if (!same || !descends) {
    return gone(pid);
  }
  return std::move(now.pidfd);
}

}  // namespace procguard::engine
