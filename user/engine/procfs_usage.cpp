// SPDX-License-Identifier: Apache-2.0
#include "engine/procfs_usage.h"

#include <algorithm>
#include <optional>
#include <vector>

namespace procguard::engine {

namespace {

std::uint64_t above(std::uint64_t value, std::uint64_t base) {
  return value > base ? value - base : 0;
}

pg_blocked kind_of(char state) {
  switch (state) {
    case 'D':
      return PG_BLOCKED_DISK;
    case 'T':
    case 't':
    case 'P':
      return PG_BLOCKED_OTHER;
    default:
      return PG_BLOCKED_SLEEP;
  }
}

struct Reading {
  sys::Stat stat;
  pg_usage usage{};  // since the thread began; blocked times not in it
};

std::optional<Reading> read_thread(const sys::ProcRoot& proc, pid_t pid, pid_t tid) {
  const auto stat = proc.thread_stat(pid, tid);
  if (!stat) {
    return std::nullopt;
  }
  Reading reading;
  reading.stat = stat.value();
  reading.usage.cpu_ns =
      sys::ticks_to_ns(stat.value().user_ticks) + sys::ticks_to_ns(stat.value().system_ticks);
  if (const auto schedstat = proc.thread_schedstat(pid, tid)) {
    reading.usage.cpu_ns = std::max<std::uint64_t>(reading.usage.cpu_ns, schedstat.value().cpu_ns);
    reading.usage.runnable_wait_ns = schedstat.value().runnable_wait_ns;
  }
  if (const auto status = proc.thread_status(pid, tid)) {
    reading.usage.voluntary_switches = status.value().voluntary_switches;
    reading.usage.involuntary_switches = status.value().involuntary_switches;
  }
  return reading;
}

// The threads a target's use is made of.
std::vector<pid_t> threads_of(const sys::ProcRoot& proc, const Target& target, pid_t pid) {
  if (target.scope == PG_SCOPE_THREAD) {
    return {target.tid};
  }
  const auto tids = proc.threads(pid);
  return tids ? tids.value() : std::vector<pid_t>();
}

void add(pg_usage& sum, const pg_usage& part) {
  sum.runnable_wait_ns += part.runnable_wait_ns;
  sum.voluntary_switches += part.voluntary_switches;
  sum.involuntary_switches += part.involuntary_switches;
  for (int i = 0; i < PG_BLOCKED_STATES; ++i) {
    sum.blocked_ns[i] += part.blocked_ns[i];
  }
}

}  // namespace

void ProcfsUsage::begin(const ProcfsMembers& members) {
  for (const auto& [pid, member] : members.live()) {
    for (const pid_t tid : threads_of(options_.proc, members.target(), pid)) {
      if (const auto reading = read_thread(options_.proc, pid, tid)) {
        base_[{tid, reading->stat.start_ticks}] = reading->usage;
      }
    }
  }
}

Usage ProcfsUsage::read(const ProcfsMembers& members, core::Ns cpu_ns) const {
  const auto uptime = options_.proc.uptime();
  Usage usage;
  for (const auto& [pid, member] : members.live()) {
    for (const pid_t tid : threads_of(options_.proc, members.target(), pid)) {
      const auto reading = read_thread(options_.proc, pid, tid);
      if (!reading) {
        continue;
      }
      ThreadUsage thread{.pid = pid,
                         .tid = tid,
                         .comm = sys::printable(reading->stat.comm),
                         .state = reading->stat.state,
                         .usage = reading->usage};
      pg_usage& used = thread.usage;
      if (const auto base = base_.find({tid, reading->stat.start_ticks}); base != base_.end()) {
        used.cpu_ns = above(used.cpu_ns, base->second.cpu_ns);
        used.runnable_wait_ns = above(used.runnable_wait_ns, base->second.runnable_wait_ns);
        used.voluntary_switches = above(used.voluntary_switches, base->second.voluntary_switches);
        used.involuntary_switches =
            above(used.involuntary_switches, base->second.involuntary_switches);
      }
      const core::Ns began =
          std::max(sys::ticks_to_ns(reading->stat.start_ticks), members.begun_at_uptime());
      const core::Ns elapsed = uptime ? above(uptime.value(), began) : 0;
      used.blocked_ns[kind_of(reading->stat.state)] =
          above(elapsed, used.cpu_ns + used.runnable_wait_ns);
      add(usage.total, used);
      usage.threads.push_back(std::move(thread));
    }
  }
  usage.total.cpu_ns = cpu_ns;
  return usage;
}

}  // namespace procguard::engine
