// SPDX-License-Identifier: Apache-2.0
#include "cli/target.h"

#include <cerrno>
#include <utility>

#include "cli/agent_link.h"
#include "cli/container.h"
#include "sys/cgroup.h"
#include "sys/files.h"
#include "sys/pidfd.h"
#include "sys/procfs_parse.h"

namespace procguard::cli {
namespace {

int status_of(int error) {
  switch (error) {
    case ESRCH:
    case ENOENT:
    case ENODEV:
      return kAgentNone;
    case EACCES:
    case EPERM:
      return kAgentNotPermitted;
    case ENOSYS:
      return kAgentUnsupported;
    default:
      return kAgentUsage;
  }
}

Error with_status(const Error& error) {
  return Error(error.message(), status_of(error.code()));
}

// The process of a thread.
Result<pid_t> process_of(pid_t tid) {
  const std::string name = std::to_string(tid);
  const auto text = sys::read_file("/proc/" + name + "/status");
  const auto tgid = text ? sys::parse_pid(sys::status_field(text.value(), "Tgid")) : std::nullopt;
  return tgid ? Result<pid_t>(*tgid) : Error("no thread " + name, kAgentNone);
}

Result<Target> open_process(pid_t pid) {
  auto pidfd = sys::open_pidfd(pid);
  if (pidfd) {
    return Target{.fd = std::move(pidfd).value(), .tid = 0};
  }
  const std::string number = std::to_string(pid);
  switch (pidfd.error().code()) {
    case ESRCH:
      return Error("no process " + number, kAgentNone);
    case EINVAL:  // since 6.15 the kernel says ENOENT
    case ENOENT:
      return Error(number + " is a thread, not a process (use --tid)", kAgentUsage);
    default:
      return with_status(pidfd.error());
  }
}

Result<Target> open_thread(pid_t tid) {
  const auto pid = process_of(tid);
  if (!pid) {
    return pid.error();
  }
  auto target = open_process(pid.value());
  if (!target) {
    return target.error();
  }
  // The pidfd may hold a process that took the number after we read it: then the thread has gone.
  const auto again = process_of(tid);
  if (!again || again.value() != pid.value()) {
    return Error("no thread " + std::to_string(tid), kAgentNone);
  }
  target->tid = tid;
  return target;
}

Result<Target> open_cgroup(const TargetWords& words) {
  const auto mounts = sys::read_cgroup_mounts();
  if (!mounts) {
    return with_status(mounts.error());
  }
  std::string path = words.cgroup;
  if (!words.container.empty()) {
    if (!mounts->v2) {
      return Error("no cgroup v2 hierarchy is mounted (mount -t cgroup2 none DIR)",
                   kAgentUnsupported);
    }
    auto found = find_container(mounts->v2->point, words.container);
    if (!found) {
      return found.error();
    }
    path = std::move(found).value();
  }
  const auto cgroup = sys::Cgroup::open(mounts.value(), path);
  if (!cgroup) {
    return with_status(cgroup.error());
  }
  auto copy = sys::duplicate_fd(cgroup->fd());
  if (!copy) {
    return with_status(copy.error());
  }
  return Target{.fd = std::move(copy).value(), .tid = 0};
}

}  // namespace

Result<Target> open_target(const TargetWords& words) {
  switch (words.scope) {
    case PG_SCOPE_THREAD:
      return open_thread(words.number);
    case PG_SCOPE_CGROUP:
      return open_cgroup(words);
    default:
      return open_process(words.number);
  }
}

}  // namespace procguard::cli
