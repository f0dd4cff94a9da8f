// SPDX-License-Identifier: Apache-2.0
#include "sys/pidfd.h"

#include <fcntl.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <string>

#include "sys/files.h"
#include "sys/procfs_parse.h"

namespace procguard::sys {

namespace {

// From the kernel's ABI; Debian 12's headers are older than both.
constexpr unsigned kPidfdThread = O_EXCL;

Result<Fd> open_with_flags(pid_t pid, unsigned flags) {
  Fd fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, flags)));
  if (!fd) {
    return Error::system("pidfd_open(" + std::to_string(pid) + ")", errno);
  }
  return fd;
}

}  // namespace

Result<Fd> open_pidfd(pid_t pid) {
  auto pidfd = open_with_flags(pid, 0);
  // The kernel says EINVAL of a process that is just being taken out of its tables.
  if (!pidfd && pidfd.error().code() == EINVAL) {
    return Error::system("pidfd_open(" + std::to_string(pid) + ")", ESRCH);
  }
  return pidfd;
}

Result<Fd> open_thread_pidfd(pid_t tid) {
  return open_with_flags(tid, kPidfdThread);
}

Result<Fd> duplicate_fd(int fd) {
  Fd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!copy) {
    return Error::system("duplicating fd " + std::to_string(fd), errno);
  }
  return copy;
}

Result<pid_t> pid_of_pidfd(int pidfd) {
  const std::string name = "pidfd " + std::to_string(pidfd);
  const auto text = read_file("/proc/self/fdinfo/" + std::to_string(pidfd));
  if (!text) {
    return text.error().code() == ENOENT ? Error::system(name, EBADF) : text.error().in(name);
  }
  const std::string_view field = status_field(text.value(), "Pid");
  pid_t pid = 0;
  const char* end = field.data() + field.size();
  const auto parsed = std::from_chars(field.data(), end, pid);
  if (field.empty() || parsed.ec != std::errc() || parsed.ptr != end) {
    return Error(name + ": expected a pidfd, this is another kind of descriptor", EINVAL);
  }
  if (pid == 0) {
    return Error(name + ": what it holds has no number in this pid namespace", ESRCH);
  }
  if (pid < 0) {
    return Error::system(name, ESRCH);
  }
  return pid;
}

Result<void> send_signal(int pidfd, int signal) {
  if (::syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0U) != 0) {
    return Error::system("pidfd_send_signal(signal " + std::to_string(signal) + ")", errno);
  }
  return {};
}

Result<void> send_thread_signal(pid_t pid, pid_t tid, int signal) {
  if (::syscall(SYS_tgkill, pid, tid, signal) != 0) {
    return Error::system("tgkill(" + std::to_string(pid) + ", " + std::to_string(tid) +
                             ", signal " + std::to_string(signal) + ")",
                         errno);
  }
  return {};
}

Result<bool> has_exited(int pidfd) {
  pollfd entry{.fd = pidfd, .events = POLLIN, .revents = 0};
  int ready = 0;
  do {
    ready = ::poll(&entry, 1, 0);
  } while (ready < 0 && errno == EINTR);
  if (ready < 0) {
    return Error::system("poll(pidfd)", errno);
  }
  if ((entry.revents & POLLNVAL) != 0) {
    return Error::system("poll(pidfd " + std::to_string(pidfd) + ")", EBADF);
  }
  return ready > 0;
}

Result<bool> share_address_space(pid_t one, pid_t other) {
  const long order = ::syscall(SYS_kcmp, one, other, KCMP_VM, 0UL, 0UL);
  if (order < 0) {
    return Error::system("kcmp(" + std::to_string(one) + ", " + std::to_string(other) + ", VM)",
                         errno);
  }
  return order == 0;
}

}  // namespace procguard::sys
