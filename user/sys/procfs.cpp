// SPDX-License-Identifier: Apache-2.0
#include "sys/procfs.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "sys/files.h"

namespace procguard::sys {

namespace {

// ENOENT has two meanings below /proc/PID: the process is gone, or the kernel has no such file.
Result<std::string> read_below(const std::string& directory, const char* name) {
  auto text = read_file(directory + "/" + name);
  if (!text && text.error().code() == ENOENT && ::access(directory.c_str(), F_OK) != 0) {
    return Error::system("reading " + directory + "/" + name, ESRCH);
  }
  return text;
}

Error not_as_expected(const std::string& directory, const char* name) {
  return Error(directory + "/" + name + ": not in the form that proc(5) describes", EPROTO);
}

template <typename T>
Result<T> read_parsed(const std::string& directory, const char* name,
                      std::optional<T> (*parse)(std::string_view)) {
  const auto text = read_below(directory, name);
  if (!text) {
    return text.error();
  }
  auto parsed = parse(text.value());
  if (!parsed) {
    return not_as_expected(directory, name);
  }
  return std::move(*parsed);
}

Result<std::vector<pid_t>> list_pids(const std::string& directory) {
  const auto names = list_directory(directory);
  if (!names && names.error().code() == ENOENT) {
    return Error::system("listing " + directory, ESRCH);
  }
  if (!names) {
    return names.error();
  }
  std::vector<pid_t> pids;
  for (const auto& name : names.value()) {
    if (const auto pid = parse_pid(name)) {
      pids.push_back(*pid);
    }
  }
  return pids;
}

}  // namespace

core::Ns ticks_to_ns(std::uint64_t ticks) {
  static const auto per_second = static_cast<std::uint64_t>(::sysconf(_SC_CLK_TCK));
  return ticks * (core::kSecond / per_second);
}

Result<Stat> ProcRoot::stat(pid_t pid) const {
  return read_parsed(process(pid), "stat", &parse_stat);
}

Result<Stat> ProcRoot::thread_stat(pid_t pid, pid_t tid) const {
  return read_parsed(thread(pid, tid), "stat", &parse_stat);
}

Result<Status> ProcRoot::status(pid_t pid) const {
  return read_parsed(process(pid), "status", &parse_status);
}

Result<Status> ProcRoot::thread_status(pid_t pid, pid_t tid) const {
  return read_parsed(thread(pid, tid), "status", &parse_status);
}

Result<Schedstat> ProcRoot::thread_schedstat(pid_t pid, pid_t tid) const {
  return read_parsed(thread(pid, tid), "schedstat", &parse_schedstat);
}

Result<CgroupLine> ProcRoot::cgroup(pid_t pid) const {
  const auto text = read_below(process(pid), "cgroup");
  if (!text) {
    return text.error();
  }
  auto line = parse_cgroup_v2(text.value());
  if (!line) {
    return Error::system(process(pid) + "/cgroup has no line of cgroup v2", ENOENT);
  }
  return std::move(*line);
}

Result<std::uint64_t> ProcRoot::rss_bytes(pid_t pid) const {
  static const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  auto statm = read_parsed(process(pid), "statm", &parse_statm);
  if (!statm) {
    return statm.error();
  }
  if (statm->size != 0) {
    return statm->resident * page;
  }
  // No address space: a zombie, or a leader that exited before its threads. Those still have it.
  const auto tids = threads(pid);
  for (const pid_t tid : tids ? tids.value() : std::vector<pid_t>()) {
    statm = read_parsed(thread(pid, tid), "statm", &parse_statm);
    if (statm && statm->size != 0) {
      return statm->resident * page;
    }
  }
  return std::uint64_t{0};
}

Result<Executable> ProcRoot::executable(pid_t pid) const {
  const std::string path = process(pid) + "/exe";
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {  // follows the kernel's link to the file itself
    return Error::system("looking at " + path, errno);
  }
  return Executable{.device = status.st_dev, .inode = status.st_ino};
}

Result<std::vector<pid_t>> ProcRoot::processes() const {
  return list_pids(path_);
}

Result<std::vector<pid_t>> ProcRoot::threads(pid_t pid) const {
  return list_pids(process(pid) + "/task");
}

std::optional<SyscallState> ProcRoot::syscall(pid_t pid, pid_t tid) const {
  const auto text = read_below(thread(pid, tid), "syscall");
  return text ? parse_syscall(text.value()) : std::nullopt;
}

std::string ProcRoot::wchan(pid_t pid, pid_t tid) const {
  const auto text = read_below(thread(pid, tid), "wchan");
  return !text || text.value() == "0" ? std::string() : printable(text.value());
}

Result<core::Ns> ProcRoot::uptime() const {
  return read_parsed(path_, "uptime", &parse_uptime);
}

Result<pid_t> ProcRoot::self() const {
  const auto link = read_link(path_ + "/self");
  if (!link) {
    return link.error();
  }
  const auto pid = parse_pid(link.value());
  if (!pid) {
    return not_as_expected(path_, "self");
  }
  return *pid;
}

Result<std::vector<Mount>> ProcRoot::mounts() const {
  const auto text = read_file(path_ + "/self/mountinfo");
  if (!text) {
    return text.error();
  }
  return parse_mountinfo(text.value());
}

Result<std::vector<pid_t>> Children::of(pid_t parent) {
  if (all_) {
    return scan(parent);
  }
  const auto threads = proc_.threads(parent);
  if (!threads) {
    return threads.error();
  }
  std::vector<pid_t> children;
  const std::string tasks = proc_.path() + "/" + std::to_string(parent) + "/task/";
  for (const pid_t tid : threads.value()) {
    const auto of_thread = read_parsed(tasks + std::to_string(tid), "children", &parse_pids);
    if (of_thread) {
      children.insert(children.end(), of_thread->begin(), of_thread->end());
    } else if (of_thread.error().code() == ENOENT) {
      return scan(parent);
    } else if (of_thread.error().code() != ESRCH) {  // a thread that ended hands its children on
      return of_thread.error();
    }
  }
  return children;
}

Result<std::vector<pid_t>> Children::scan(pid_t parent) {
  if (!all_) {
    const auto pids = proc_.processes();
    if (!pids) {
      return pids.error();
    }
    all_.emplace();
    for (const pid_t pid : pids.value()) {
      if (const auto stat = proc_.stat(pid)) {
        all_->emplace(stat.value().ppid, pid);
      }
    }
  }
  std::vector<pid_t> children;
  const auto [begin, end] = all_->equal_range(parent);
  for (auto it = begin; it != end; ++it) {
    children.push_back(it->second);
  }
  return children;
}

}  // namespace procguard::sys
