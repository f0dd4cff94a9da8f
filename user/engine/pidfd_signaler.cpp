// SPDX-License-Identifier: Apache-2.0
#include "engine/pidfd_signaler.h"

#include <unistd.h>

#include <cerrno>

#include "sys/cgroup.h"
#include "sys/pidfd.h"

namespace procguard::engine {

Result<void> PidfdSignaler::send(int pidfd, int signal) {
  return sys::send_signal(pidfd, signal);
}

Result<void> PidfdSignaler::send_thread(pid_t pid, pid_t tid, int signal) {
  return sys::send_thread_signal(pid, tid, signal);
}

Result<void> PidfdSignaler::kill_cgroup(const std::string& path, std::uint64_t id) {
  const auto cgroup = sys::Cgroup::open_resolved(path);
  if (!cgroup) {
    return cgroup.error();
  }
  // What is killed is what was opened: a directory made again under the path has another id.
  if (cgroup.value().id() != id) {
    return Error::system("cgroup '" + sys::printable(path) + "' by its id", ESRCH);
  }
  // Fail closed: cgroup.kill spares nobody, and where the members cannot be read it is not used.
  const auto own = cgroup.value().contains(::getpid());
  if (!own) {
    return own.error();
  }
  if (own.value()) {
    return Error::system("killing cgroup '" + sys::printable(path) + "', which holds procguard",
                         EPERM);
  }
  return cgroup.value().kill();
}

}  // namespace procguard::engine
