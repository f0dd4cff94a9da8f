// SPDX-License-Identifier: Apache-2.0
#include "engine/procfs_accounts.h"

#include <algorithm>

#include "sys/cgroup.h"
#include "sys/files.h"

namespace procguard::engine {

namespace {

std::uint64_t above(std::uint64_t value, std::uint64_t base) {
  return value > base ? value - base : 0;
}

core::Ns own_ticks(const sys::Stat& stat) {
  return sys::ticks_to_ns(stat.user_ticks) + sys::ticks_to_ns(stat.system_ticks);
}

core::Ns children_ticks(const sys::Stat& stat) {
  return sys::ticks_to_ns(stat.children_user_ticks) + sys::ticks_to_ns(stat.children_system_ticks);
}

}  // namespace

void ProcfsAccounts::begin(ProcfsMembers& members) {
  for (auto& [pid, member] : members.live()) {
    place(member, members);
    discount_zombies(member);
  }
  if (members.target().scope == PG_SCOPE_THREAD) {
    whole_base_ns_ = thread_cpu(members);
  } else if (const auto cpu = cgroup_cpu(members)) {
    whole_base_ns_ = *cpu;
  }
}

const ProcfsSums& ProcfsAccounts::update(ProcfsMembers& members) {
  settle(members);
  for (auto& [pid, member] : members.live()) {
    if (!member.account.placed) {
      place(member, members);
    }
  }
  update_memory(members);
  update_cpu(members);
  return sums_;
}

// Children that ended before we looked: their time comes to the member when it waits for them.
void ProcfsAccounts::discount_zombies(ProcMember& member) const {
  const auto children = sys::Children(options_.proc).of(member.pid);
  for (const pid_t pid : children ? children.value() : std::vector<pid_t>()) {
    const auto stat = options_.proc.stat(pid);
    if (stat && stat.value().ended()) {
      member.account.reaped_base_ns += own_ticks(stat.value()) + children_ticks(stat.value());
    }
  }
}

// The first look at a member: what of its use is not the target's.
void ProcfsAccounts::place(ProcMember& member, const ProcfsMembers& members) {
  ProcAccount& account = member.account;
  account.placed = true;
  look_at_cpu(member);
  const auto rss = options_.proc.rss_bytes(member.pid);
  account.rss_bytes = rss ? rss.value() : 0;
  if (!member.fresh) {
    account.cpu_base_ns = account.cpu_ns;
    account.reaped_base_ns = account.reaped_ns;
    const auto status = options_.proc.status(member.pid);
    account.peak_base_bytes = status ? status.value().peak_rss_bytes : 0;
  }
  const ProcMember* parent = parent_in(member, members);
  if (parent == nullptr || !same_program(member, *parent)) {
    return;
  }
  account.shares = true;
  const auto parent_rss = options_.proc.rss_bytes(parent->pid);
  account.base_bytes = std::min(account.rss_bytes, parent_rss ? parent_rss.value() : 0);
  const auto borrows = options_.share_address_space(member.pid, parent->pid);
  account.borrows = borrows && borrows.value();
}

const ProcMember* ProcfsAccounts::parent_in(const ProcMember& member,
                                            const ProcfsMembers& members) const {
  const auto parent = members.live().find(member.stat.ppid);
  return parent == members.live().end() ? nullptr : &parent->second;
}

// Where the kernel does not show these to us, they have not been proven to be the same.
bool ProcfsAccounts::same_program(const ProcMember& one, const ProcMember& other) const {
  if (one.stat.start_stack == 0 || one.stat.start_stack != other.stat.start_stack ||
      one.stat.start_code != other.stat.start_code) {
    return false;
  }
  const auto file = options_.proc.executable(one.pid);
  const auto other_file = options_.proc.executable(other.pid);
  return file && other_file && file.value() == other_file.value();
}

void ProcfsAccounts::look_at_memory(ProcMember& member, const ProcfsMembers& members) const {
  ProcAccount& account = member.account;
  const auto rss = options_.proc.rss_bytes(member.pid);
  account.rss_bytes = rss ? rss.value() : 0;
  if (account.shares) {
    const ProcMember* parent = parent_in(member, members);
    account.shares = parent != nullptr && same_program(member, *parent);
    account.borrows = account.borrows && account.shares;
    // What it has given back it no longer shares.
    account.base_bytes = account.shares ? std::min(account.base_bytes, account.rss_bytes) : 0;
  }
  if (!account.shares) {
    const auto status = options_.proc.status(member.pid);
    account.peak_bytes = status ? status.value().peak_rss_bytes : 0;
  }
}

void ProcfsAccounts::update_memory(ProcfsMembers& members) {
  sums_.memory_bytes = 0;
  sums_.memory_plain_bytes = 0;
  for (auto& [pid, member] : members.live()) {
    look_at_memory(member, members);
    const ProcAccount& account = member.account;
    if (!account.borrows) {
      sums_.memory_bytes += above(account.rss_bytes, account.base_bytes);
      sums_.memory_plain_bytes += account.rss_bytes;
    }
    // Between two looks a process may have been larger: the kernel keeps that.
    if (!account.shares && account.peak_bytes > account.peak_base_bytes) {
      sums_.memory_peak_bytes = std::max(sums_.memory_peak_bytes, account.peak_bytes);
      sums_.memory_plain_peak_bytes = std::max(sums_.memory_plain_peak_bytes, account.peak_bytes);
    }
  }
  sums_.memory_peak_bytes = std::max(sums_.memory_peak_bytes, sums_.memory_bytes);
  sums_.memory_plain_peak_bytes = std::max(sums_.memory_plain_peak_bytes, sums_.memory_plain_bytes);
}

void ProcfsAccounts::look_at_cpu(ProcMember& member) const {
  ProcAccount& account = member.account;
  // In ticks, rounded down, but with the threads that have ended; or exact without those.
  core::Ns of_threads = 0;
  const auto tids = options_.proc.threads(member.pid);
  for (const pid_t tid : tids ? tids.value() : std::vector<pid_t>()) {
    const auto schedstat = options_.proc.thread_schedstat(member.pid, tid);
    of_threads += schedstat ? schedstat.value().cpu_ns : 0;
  }
  account.cpu_ns = std::max({account.cpu_ns, own_ticks(member.stat), of_threads});
  account.reaped_ns = children_ticks(member.stat);
}

void ProcfsAccounts::settle(ProcfsMembers& members) {
  std::vector<ProcMember> ended = members.take_ended();
  // Ended before its first reading: what it had used before it was watched is not known.
  std::erase_if(ended,
                [](const ProcMember& member) { return !member.account.placed && !member.fresh; });
  std::map<pid_t, ProcMember*> ended_by_pid;
  for (ProcMember& member : ended) {
    ended_by_pid[member.pid] = &member;
  }
  // Whose parent is a member, or was one until just now, is in that one's children, or will be.
  const auto waited_for_by = [&](const ProcMember& member) -> ProcAccount* {
    if (const auto live = members.live().find(member.stat.ppid); live != members.live().end()) {
      return &live->second.account;
    }
    const auto same_time = ended_by_pid.find(member.stat.ppid);
    return same_time == ended_by_pid.end() ? nullptr : &same_time->second->account;
  };
  for (ProcMember& member : ended) {
    ProcAccount& account = member.account;
    account.cpu_ns = std::max(account.cpu_ns, own_ticks(member.stat));
    account.reaped_ns = std::max(account.reaped_ns, children_ticks(member.stat));
    if (ProcAccount* parent = waited_for_by(member)) {
      // With its time the parent gets what is not ours of it.
      parent->reaped_base_ns += account.cpu_base_ns + account.reaped_base_ns;
    }
  }
  for (const ProcMember& member : ended) {
    const ProcAccount& account = member.account;
    const core::Ns own = above(account.cpu_ns, account.cpu_base_ns);
    ended_own_ns_ += own;
    if (waited_for_by(member) == nullptr) {
      ended_unwaited_ns_ += own + above(account.reaped_ns, account.reaped_base_ns);
    }
  }
}

void ProcfsAccounts::update_cpu(ProcfsMembers& members) {
  core::Ns own = 0;
  core::Ns reaped = 0;
  for (auto& [pid, member] : members.live()) {
    look_at_cpu(member);
    own += above(member.account.cpu_ns, member.account.cpu_base_ns);
    reaped += above(member.account.reaped_ns, member.account.reaped_base_ns);
  }
  core::Ns cpu = ended_own_ns_ + own;
  switch (members.target().scope) {
    case PG_SCOPE_TREE:
      // Both are at most what was used; which is nearer depends on who waited for whom.
      cpu = std::max(cpu, ended_unwaited_ns_ + own + reaped);
      break;
    case PG_SCOPE_THREAD:
      // Once it has ended, its number may be another's.
      cpu = members.live().empty() ? 0 : above(thread_cpu(members), whole_base_ns_);
      break;
    case PG_SCOPE_CGROUP:
      if (const auto whole = cgroup_cpu(members)) {
        cpu = above(*whole, whole_base_ns_);
      }
      break;
    default:
      break;
  }
  sums_.cpu_ns = std::max(sums_.cpu_ns, cpu);
}

core::Ns ProcfsAccounts::thread_cpu(const ProcfsMembers& members) const {
  const Target& target = members.target();
  const auto stat = options_.proc.thread_stat(target.pid, target.tid);
  const auto schedstat = options_.proc.thread_schedstat(target.pid, target.tid);
  return std::max(stat ? own_ticks(stat.value()) : 0, schedstat ? schedstat.value().cpu_ns : 0);
}

// "usage_usec 12345": the time of all that ever ran in the cgroup and below.
std::optional<core::Ns> ProcfsAccounts::cgroup_cpu(const ProcfsMembers& members) const {
  if (!members.cgroup()) {
    return std::nullopt;
  }
  const auto text = sys::read_file("cpu.stat", members.cgroup()->fd());
  const auto usage = text ? sys::parse_cpu_usage(text.value()) : std::nullopt;
  return usage ? std::optional(*usage * core::kMicrosecond) : std::nullopt;
}

}  // namespace procguard::engine
