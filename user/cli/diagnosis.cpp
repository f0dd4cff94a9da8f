// SPDX-License-Identifier: Apache-2.0
#include "cli/diagnosis.h"

#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <numeric>

namespace procguard::cli {
namespace {

// Calls whose purpose is to wait: a pause, or for whatever comes first. Futex is not among them: it
// is where a deadlock shows.
constexpr std::array<std::string_view, 16> kPauses = {
    "nanosleep",       "clock_nanosleep", "pause",        "rt_sigsuspend",
    "rt_sigtimedwait", "select",          "pselect6",     "poll",
    "ppoll",           "epoll_wait",      "epoll_pwait",  "epoll_pwait2",
    "wait4",           "waitid",          "io_getevents", "restart_syscall"};

std::uint64_t blocked_of(const pg_usage& usage) {
  return std::accumulate(std::begin(usage.blocked_ns), std::end(usage.blocked_ns),
                         std::uint64_t{0});
}

// Starved: it got less than a third of the CPU time it wanted.
Activity running(std::uint64_t cpu_ns, std::uint64_t wait_ns) {
  return wait_ns / 2 <= cpu_ns ? Activity::kSpinning : Activity::kStarved;
}

Activity from_total(const pg_usage& total) {
  const std::uint64_t blocked = blocked_of(total);
  if (total.cpu_ns + total.runnable_wait_ns >= blocked) {
    return running(total.cpu_ns, total.runnable_wait_ns);
  }
  return total.blocked_ns[PG_BLOCKED_DISK] > blocked / 2 ? Activity::kStuck : Activity::kSleeping;
}

}  // namespace

const char* activity_name(Activity activity) {
  switch (activity) {
    case Activity::kSpinning:
      return "spinning";
    case Activity::kStarved:
      return "starved of CPU";
    case Activity::kStuck:
      return "stuck in a syscall";
    case Activity::kSleeping:
      break;
  }
  return "sleeping";
}

Shares shares_of(const pg_usage& usage) {
  const std::uint64_t blocked = blocked_of(usage);
  const auto all = static_cast<double>(usage.cpu_ns + usage.runnable_wait_ns + blocked);
  if (all <= 0) {
    return {};
  }
  return {.cpu = static_cast<double>(usage.cpu_ns) / all,
          .runnable_wait = static_cast<double>(usage.runnable_wait_ns) / all,
          .blocked = static_cast<double>(blocked) / all};
}

Activity diagnose(char state, std::string_view syscall, const pg_usage& usage) {
  switch (state) {
    case 'R':
      return running(usage.cpu_ns, usage.runnable_wait_ns);
    case 'D':
      return Activity::kStuck;
    case 'S': {
      const bool pauses = std::find(kPauses.begin(), kPauses.end(), syscall) != kPauses.end();
      const bool unknown = syscall.empty() || syscall == "running";  // it has just left it
      return unknown || pauses ? Activity::kSleeping : Activity::kStuck;
    }
    default:
      return Activity::kSleeping;  // stopped, traced, idle, ended
  }
}

Activity diagnose_all(const std::vector<ThreadActivity>& threads, const pg_usage& total) {
  if (threads.empty()) {
    return from_total(total);
  }
  std::uint64_t cpu_ns = 0;
  std::uint64_t wait_ns = 0;
  bool runs = false;
  bool stuck = false;
  for (const ThreadActivity& thread : threads) {
    if (thread.activity == Activity::kSpinning || thread.activity == Activity::kStarved) {
      runs = true;
      cpu_ns += thread.usage.cpu_ns;
      wait_ns += thread.usage.runnable_wait_ns;
    }
    stuck = stuck || thread.activity == Activity::kStuck;
  }
  if (runs) {
    return running(cpu_ns, wait_ns);
  }
  return stuck ? Activity::kStuck : Activity::kSleeping;
}

std::string syscall_name(long number) {
  // Architectures have not all of them: arm64 has no poll, select, pause or open.
  struct Call {
    long number;
    const char* name;
  };
  static constexpr Call kCalls[] = {
      {SYS_read, "read"},
      {SYS_write, "write"},
      {SYS_readv, "readv"},
      {SYS_writev, "writev"},
      {SYS_pread64, "pread64"},
      {SYS_pwrite64, "pwrite64"},
      {SYS_futex, "futex"},
      {SYS_flock, "flock"},
      {SYS_fcntl, "fcntl"},
      {SYS_ioctl, "ioctl"},
      {SYS_fsync, "fsync"},
      {SYS_fdatasync, "fdatasync"},
      {SYS_openat, "openat"},
      {SYS_close, "close"},
      {SYS_connect, "connect"},
      {SYS_accept, "accept"},
      {SYS_accept4, "accept4"},
      {SYS_recvfrom, "recvfrom"},
      {SYS_recvmsg, "recvmsg"},
      {SYS_sendto, "sendto"},
      {SYS_sendmsg, "sendmsg"},
      {SYS_splice, "splice"},
      {SYS_sendfile, "sendfile"},
      {SYS_mmap, "mmap"},
      {SYS_munmap, "munmap"},
      {SYS_clone, "clone"},
      {SYS_execve, "execve"},
      {SYS_wait4, "wait4"},
      {SYS_waitid, "waitid"},
      {SYS_nanosleep, "nanosleep"},
      {SYS_clock_nanosleep, "clock_nanosleep"},
      {SYS_restart_syscall, "restart_syscall"},
      {SYS_rt_sigsuspend, "rt_sigsuspend"},
      {SYS_rt_sigtimedwait, "rt_sigtimedwait"},
      {SYS_pselect6, "pselect6"},
      {SYS_ppoll, "ppoll"},
      {SYS_epoll_pwait, "epoll_pwait"},
      {SYS_io_getevents, "io_getevents"},
      {SYS_semtimedop, "semtimedop"},
      {SYS_msgrcv, "msgrcv"},
      {SYS_mq_timedreceive, "mq_timedreceive"},
#ifdef SYS_epoll_pwait2
      {SYS_epoll_pwait2, "epoll_pwait2"},
#endif
#ifdef SYS_open
      {SYS_open, "open"},
      {SYS_pause, "pause"},
      {SYS_poll, "poll"},
      {SYS_select, "select"},
      {SYS_epoll_wait, "epoll_wait"},
      {SYS_fork, "fork"},
      {SYS_vfork, "vfork"},
#endif
  };
  for (const Call& call : kCalls) {
    if (call.number == number) {
      return call.name;
    }
  }
  return std::to_string(number);
}

}  // namespace procguard::cli
