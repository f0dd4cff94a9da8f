// SPDX-License-Identifier: Apache-2.0
#include "agent/targets.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "sys/files.h"
#include "sys/pidfd.h"
#include "sys/procfs_parse.h"

namespace procguard::agent {
namespace {

using proto::Status;

Denial no_process(pid_t pid) {
  return {.status = Status::kNotFound,
          .text = "process " + std::to_string(pid) + ": no such process (it may have ended)"};
}

Denial wrong_fd(const std::string& what, const std::string& why) {
  return {.status = Status::kInvalid, .text = what + ": " + why};
}

// The path that the kernel gives a directory is that of its mount, which may be another than ours.
// A way that its owner has barred is no reason to refuse: the descriptor counts. Nothing is entered
// that somebody may have mounted below.
bool leads_to(const std::string& path, const sys::CgroupMounts::V2& v2, ino_t id) {
  const sys::Fd root(::open(v2.point.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  const std::size_t below = path.find_first_not_of('/', std::min(v2.point.size(), path.size()));
  const std::string way = below == std::string::npos ? "." : path.substr(below);
  open_how how{};
  how.flags = O_PATH | O_CLOEXEC;
  how.resolve = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS;
  const sys::Fd there(
      static_cast<int>(::syscall(SYS_openat2, root.get(), way.c_str(), &how, sizeof(how))));
  struct stat about {};
  return there ? ::fstat(there.get(), &about) == 0 && about.st_ino == id : errno == EACCES;
}

}  // namespace

std::optional<Denial> Targets::resolve(const proto::AttachBody& wanted, sys::Fd fd,
                                       HeldTarget& held) const {
  held.facts.scope = wanted.scope;
  held.target.scope = static_cast<pg_scope>(wanted.scope);
  return wanted.scope == PG_SCOPE_CGROUP ? resolve_cgroup(std::move(fd), held)
                                         : resolve_process(wanted, std::move(fd), held);
}

std::optional<Denial> Targets::resolve_process(const proto::AttachBody& wanted, sys::Fd fd,
                                               HeldTarget& held) const {
  pid_t pid = static_cast<pid_t>(wanted.pid);
  if ((wanted.flags & proto::kHasFd) != 0) {
    if (!fd) {
      return wrong_fd("the descriptor of the target", "expected a pidfd");
    }
    const auto named = sys::pid_of_pidfd(fd.get());
    if (!named && named.error().code() == ESRCH) {
      return Denial{.status = Status::kNotFound, .text = "the process of the descriptor has ended"};
    }
    if (!named) {
      return wrong_fd("the descriptor of the target", named.error().message());
    }
    pid = named.value();
  } else {
    auto opened = sys::open_pidfd(pid);
    if (!opened) {
      return no_process(pid);
    }
    fd = std::move(opened).value();
  }
  const auto stat = proc_.stat(pid);
  if (!stat || stat->ended()) {
    return no_process(pid);
  }
  held.hold = std::move(fd);
  held.target.pid = pid;
  held.target.tid = wanted.scope == PG_SCOPE_THREAD ? static_cast<pid_t>(wanted.tid) : 0;
  TargetFacts& facts = held.facts;
  facts.pid = pid;
  facts.kernel_thread = stat->kernel_thread();
  facts.agent = pid == self_;
  facts.holds_agent = wanted.scope == PG_SCOPE_TREE && descends_from(pid);
  if (wanted.scope == PG_SCOPE_THREAD && !proc_.thread_stat(pid, held.target.tid)) {
    return Denial{.status = Status::kNotFound,
                  .text = "thread " + std::to_string(held.target.tid) + " of process " +
                          std::to_string(pid) + ": no such thread"};
  }
  return still_there(held);
}

std::optional<Denial> Targets::look_at_owner(HeldTarget& held) const {
  if (held.target.scope == PG_SCOPE_CGROUP) {
    return std::nullopt;  // its directory's owner is known
  }
  const auto now = status(held.target.pid);
  if (!now) {
    return no_process(held.target.pid);
  }
  held.facts.real_uid = now->real_uid;
  held.facts.saved_uid = now->saved_uid;
  return still_there(held);
}

std::optional<Denial> Targets::resolve_cgroup(sys::Fd fd, HeldTarget& held) const {
  struct stat about {};
  struct statfs where {};
  if (!fd || ::fstat(fd.get(), &about) != 0 || ::fstatfs(fd.get(), &where) != 0 ||
      !S_ISDIR(about.st_mode) || static_cast<std::uint64_t>(where.f_type) != CGROUP2_SUPER_MAGIC) {
    return wrong_fd("the descriptor of the target", "expected the directory of a v2 cgroup");
  }
  const auto path = sys::read_link("/proc/self/fd/" + std::to_string(fd.get()));
  if (!path) {
    return wrong_fd("the cgroup", path.error().message());
  }
  const auto type = sys::read_file("cgroup.type", fd.get());  // the root has none
  if (type && type->starts_with("threaded")) {
    return wrong_fd("cgroup '" + sys::printable(path.value()) + "'",
                    "it is threaded; use the domain cgroup above it");
  }
  const auto mounts = sys::read_cgroup_mounts();
  if (!mounts || !mounts->v2 || !leads_to(path.value(), *mounts->v2, about.st_ino)) {
    return Denial{.status = Status::kNotFound,
                  .text = "cgroup '" + sys::printable(path.value()) +
                          "': it is not there for the agent (removed, or of another mount)"};
  }
  held.hold = std::move(fd);
  held.target.cgroup_path = path.value();
  held.target.cgroup_id = about.st_ino;
  held.facts.cgroup = sys::printable(path.value());
  held.facts.cgroup_uid = about.st_uid;
  const auto inside = sys::cgroup_contains(mounts.value(), about.st_ino, self_);
  held.facts.holds_agent = !inside || inside.value();  // fail closed
  return std::nullopt;
}

std::optional<Denial> Targets::still_there(const HeldTarget& held) const {
  if (held.target.scope == PG_SCOPE_CGROUP) {
    return std::nullopt;
  }
  const auto ended = sys::has_exited(held.hold.get());
  if (!ended || ended.value()) {
    return no_process(held.target.pid);
  }
  return std::nullopt;
}

std::optional<sys::Status> Targets::status(pid_t pid) const {
  auto now = proc_.status(pid);
  return now ? std::optional<sys::Status>(now.value()) : std::nullopt;
}

// Is the agent in this process's tree?
bool Targets::descends_from(pid_t ancestor) const {
  pid_t pid = self_;
  for (int depth = 0; pid > 1 && depth < 4096; ++depth) {
    if (pid == ancestor) {
      return true;
    }
    const auto stat = proc_.stat(pid);
    if (!stat) {
      return true;  // fail closed
    }
    pid = stat->ppid;
  }
  return pid == ancestor;
}

}  // namespace procguard::agent
