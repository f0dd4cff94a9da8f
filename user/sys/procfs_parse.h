// SPDX-License-Identifier: Apache-2.0
// Parsers of /proc texts. Pure: buffer in, value out; nothing where the text has not the expected
// form. Names in these texts (comm, cgroup, mount point) are chosen by whoever is guarded: nothing
// here trusts them. Any thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace procguard::sys {

// /proc/PID/stat and /proc/PID/task/TID/stat; the fields that are used.
struct Stat {
  pid_t pid = 0;
  std::string comm;  // raw bytes: printable() before it is shown
  char state = '?';
  pid_t ppid = 0;
  pid_t process_group = 0;
  pid_t session = 0;
  std::uint32_t flags = 0;  // PF_*
  std::uint64_t user_ticks = 0;
  std::uint64_t system_ticks = 0;
  std::uint64_t children_user_ticks = 0;  // of children that were waited for
  std::uint64_t children_system_ticks = 0;
  std::uint64_t threads = 0;
  std::uint64_t start_ticks = 0;  // since boot
  // Of the program in memory: an exec changes them, a fork does not. 0 without permission.
  std::uint64_t start_code = 0;
  std::uint64_t start_stack = 0;

  bool kernel_thread() const;
  // The whole process has ended. A leader that has exited while other threads run shows as a
  // zombie too, with more than one thread.
  bool ended() const { return (state == 'Z' || state == 'X') && threads <= 1; }
};
std::optional<Stat> parse_stat(std::string_view text);

// /proc/PID/statm, in pages.
struct Statm {
  std::uint64_t size = 0;
  std::uint64_t resident = 0;
  std::uint64_t shared = 0;
};
std::optional<Statm> parse_statm(std::string_view text);

// /proc/PID/status; what a kernel does not show (a kernel thread has no Vm lines) stays 0 or empty.
struct Status {
  char state = '?';
  pid_t tracer_pid = 0;
  uid_t real_uid = 0;
  uid_t effective_uid = 0;
  uid_t saved_uid = 0;
  std::vector<pid_t> ns_pids;  // outermost namespace first
  std::uint64_t peak_rss_bytes = 0;
  std::uint64_t rss_bytes = 0;
  std::uint64_t caught_signals = 0;  // bit N-1: signal N has a handler
  std::uint64_t voluntary_switches = 0;
  std::uint64_t involuntary_switches = 0;

  bool catches(int signal) const {
    return signal >= 1 && signal <= 64 && ((caught_signals >> (signal - 1)) & 1U) != 0;
  }
  // PID 1 of a pid namespace below the reader's.
  bool namespace_init() const { return ns_pids.size() > 1 && ns_pids.back() == 1; }
};
std::optional<Status> parse_status(std::string_view text);

// The value of one "Name:<tab>value" line without surrounding blanks; empty if there is none.
std::string_view status_field(std::string_view text, std::string_view name);

// /proc/PID/schedstat.
struct Schedstat {
  std::uint64_t cpu_ns = 0;
  std::uint64_t runnable_wait_ns = 0;
  std::uint64_t slices = 0;
};
std::optional<Schedstat> parse_schedstat(std::string_view text);

// /proc/PID/syscall: where a thread is.
struct SyscallState {
  bool running = false;  // on a CPU or runnable; the rest is not known then
  long number = -1;      // -1: blocked, but not in a system call (a page fault, say)
};
std::optional<SyscallState> parse_syscall(std::string_view text);

// /proc/uptime: nanoseconds since boot.
std::optional<std::uint64_t> parse_uptime(std::string_view text);

// Numbers separated by blanks or line ends: children, cgroup.procs. Zeros (processes of another pid
// namespace) are left out. Nothing if anything else stands there.
std::optional<std::vector<pid_t>> parse_pids(std::string_view text);

// A whole name of digits above 0, as the entries of /proc that are processes.
std::optional<pid_t> parse_pid(std::string_view name);

// The "0::" line of /proc/PID/cgroup.
struct CgroupLine {
  std::string path;      // "/" + path below the root of the reader's cgroup namespace
  bool deleted = false;  // its directory has been removed
};
std::optional<CgroupLine> parse_cgroup_v2(std::string_view text);

// One line of /proc/PID/mountinfo; the kernel's octal escapes are undone.
struct Mount {
  std::string root;   // the directory of the file system that is mounted here
  std::string point;  // where
  std::string type;
  std::string super_options;
};
std::vector<Mount> parse_mountinfo(std::string_view text);  // unreadable lines are left out

// For messages, logs and JSON: ASCII as it is, a backslash doubled, every other byte as \xNN.
std::string printable(std::string_view raw);

}  // namespace procguard::sys
