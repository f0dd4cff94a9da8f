// SPDX-License-Identifier: Apache-2.0
// Who is a member of a watch, and what its threads used.
#include <cerrno>
#include <cstring>

#include "bpf/account.h"
#include "engine/bpf_source.h"
#include "engine/shared_memory.h"
#include "sys/pidfd.h"
#include "sys/procfs.h"

namespace procguard::engine {
namespace {

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

}  // namespace

Result<std::vector<Member>> BpfSource::members(WatchId id) {
  pg_watch* watch = find(id);
  if (watch == nullptr) {
    return Error("listing members: no such watch", ENOENT);
  }
  std::vector<Member> members;
  if (load(watch->processes) <= 0) {
    return members;
  }
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

// Of a few processes /proc has the numbers; of many a walk is cheaper.
Result<std::vector<pg_thread>> BpfSource::threads_of(const std::vector<Member>& members) const {
  constexpr std::size_t kFew = 8;
  if (members.size() > kFew) {
    return programs_->threads();
  }
  std::vector<pg_thread> all;
  for (const Member& member : members) {
    const auto tids = sys::ProcRoot().threads(member.pid);
    for (const pid_t tid : tids ? tids.value() : std::vector<pid_t>()) {
      if (auto thread = programs_->thread(static_cast<std::uint32_t>(tid))) {
        all.push_back(*thread);
      }
    }
  }
  return all;
}

Result<Usage> BpfSource::usage(WatchId id) {
  pg_watch* watch = find(id);
  if (watch == nullptr) {
    return Error("reading usage: no such watch", ENOENT);
  }
  auto members = this->members(id);
  auto threads = threads_of(members ? members.value() : std::vector<Member>());
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

}  // namespace procguard::engine
