// SPDX-License-Identifier: Apache-2.0
// Readers of /proc, or of a tree that looks like it. A number names a process only for the moment:
// who needs to be sure holds a pidfd and looks whether it is still alive *after* reading. Error
// codes: ESRCH: no such process (or thread); ENOENT: this kernel has no such file; EACCES, EPERM;
// EPROTO: the text has not the expected form. Any thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/clock.h"
#include "core/result.h"
#include "sys/procfs_parse.h"

namespace procguard::sys {

// The file a process executes: device and inode number.
struct Executable {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  bool operator==(const Executable&) const = default;
};

class ProcRoot {
 public:
  explicit ProcRoot(std::string path = "/proc") : path_(std::move(path)) {}

  const std::string& path() const { return path_; }

  Result<Stat> stat(pid_t pid) const;
  Result<Stat> thread_stat(pid_t pid, pid_t tid) const;
  Result<Status> status(pid_t pid) const;
  Result<Status> thread_status(pid_t pid, pid_t tid) const;
  Result<Schedstat> thread_schedstat(pid_t pid, pid_t tid) const;
  // Also right where the leader has exited and other threads go on. 0: no address space (any more).
  Result<std::uint64_t> rss_bytes(pid_t pid) const;
  Result<Executable> executable(pid_t pid) const;
  // ENOENT: the process is in no v2 cgroup (none is mounted).
  Result<CgroupLine> cgroup(pid_t pid) const;

  Result<std::vector<pid_t>> processes() const;
  Result<std::vector<pid_t>> threads(pid_t pid) const;

  // What a thread is doing in the kernel; empty where it is not told.
  std::optional<SyscallState> syscall(pid_t pid, pid_t tid) const;
  std::string wchan(pid_t pid, pid_t tid) const;

  // Since boot, suspended time included: the clock of Stat::start_ticks. 10 ms steps.
  Result<core::Ns> uptime() const;
  // The reader's own pid as this /proc numbers it; ENOENT for a process outside its namespace.
  Result<pid_t> self() const;
  Result<std::vector<Mount>> mounts() const;

 private:
  std::string process(pid_t pid) const { return path_ + "/" + std::to_string(pid); }
  std::string thread(pid_t pid, pid_t tid) const {
    return process(pid) + "/task/" + std::to_string(tid);
  }

  std::string path_;
};

// Children by parent. Reads task/*/children; where the kernel has no such file
// (CONFIG_PROC_CHILDREN) it goes through all processes once and answers from that: make a new one
// for each look.
class Children {
 public:
  explicit Children(const ProcRoot& proc) : proc_(proc) {}
  // Without children the answer is empty; ESRCH: the parent is gone. A child that is born or reaped
  // meanwhile may be missing, and so may its sibling: look again.
  Result<std::vector<pid_t>> of(pid_t parent);

 private:
  Result<std::vector<pid_t>> scan(pid_t parent);

  const ProcRoot& proc_;
  std::optional<std::multimap<pid_t, pid_t>> all_;
};

// Clock ticks of /proc (USER_HZ) as nanoseconds.
core::Ns ticks_to_ns(std::uint64_t ticks);

}  // namespace procguard::sys
