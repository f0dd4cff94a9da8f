// SPDX-License-Identifier: Apache-2.0
// cgroup v2 directories: where the hierarchy is mounted, which directory a user means, and what can
// be done with it. A Cgroup holds its directory open, so a directory made anew under the same path
// is never taken for it. Names are hostile: messages show them escaped. One thread an object.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/result.h"
#include "sys/fd.h"
#include "sys/procfs_parse.h"

namespace procguard::sys {

// Where the hierarchies are mounted.
struct CgroupMounts {
  struct V2 {
    std::string point;       // "/sys/fs/cgroup" or, beside v1, "/sys/fs/cgroup/unified"
    std::string root = "/";  // the cgroup that is mounted there, as /proc/PID/cgroup names it
  };
  std::optional<V2> v2;
  std::vector<std::string> v1_points;
};
CgroupMounts find_cgroup_mounts(const std::vector<Mount>& mounts);
Result<CgroupMounts> read_cgroup_mounts(const std::string& mountinfo = "/proc/self/mountinfo");

// The absolute path of the directory the user means by `path`: an absolute path below the v2 mount,
// or a path below the hierarchy's root ("/jobs/a" as in /proc/PID/cgroup, "jobs/a"). Looks at the
// text only. Errors: no v2 mount; a v1 path (names the v2 path to use instead); ".." in it.
Result<std::string> resolve_cgroup_path(const CgroupMounts& mounts, const std::string& path);

// ENODEV from its functions: the directory has been removed.
class Cgroup {
 public:
  // The one named by `path` (see resolve_cgroup_path). Errors name what is wrong with it: missing,
  // not a directory, not a cgroup v2 directory, threaded.
  static Result<Cgroup> open(const CgroupMounts& mounts, const std::string& path);
  // An absolute path that was resolved before.
  static Result<Cgroup> open_resolved(const std::string& path);

  const std::string& path() const { return path_; }
  // The inode number of the directory, which BPF calls the cgroup id.
  std::uint64_t id() const { return id_; }
  int fd() const { return directory_.get(); }

  // Processes in it and below it in ascending order, each once; without zombies and processes that
  // this pid namespace does not see.
  Result<std::vector<pid_t>> processes() const;
  // Asks where the process is, not who is here: nobody who owns what is below can make it fail or
  // take long.
  Result<bool> contains(pid_t pid) const;
  // The line "populated 1" of cgroup.events: a live process is in it or below.
  Result<bool> populated() const;
  Result<bool> frozen() const;
  // Kills all that is in it and below, forks in flight included. ENOENT: the kernel has no
  // cgroup.kill (before 5.14), or it is the root.
  Result<void> kill() const;
  // Its path still names this directory.
  bool still_there() const;

 private:
  Cgroup(std::string path, std::uint64_t id, Fd directory)
      : path_(std::move(path)), id_(id), directory_(std::move(directory)) {}
  Error failed(const Error& error) const;

  std::string path_;
  std::uint64_t id_;
  Fd directory_;
};

// Is this process in the cgroup with this id (see Cgroup::id) or below it? Errors: its cgroup, or
// one above it, is not to be seen.
Result<bool> cgroup_contains(const CgroupMounts& mounts, std::uint64_t id, pid_t pid);

// The absolute path of the directory a process with this /proc/PID/cgroup line is in. Nothing if it
// lies outside of what is mounted, or has been removed.
std::optional<std::string> cgroup_directory(const CgroupMounts& mounts, const CgroupLine& line);

// True if `path` is `ancestor` or below it. Both absolute and without "..".
bool path_is_below(std::string_view path, std::string_view ancestor);

// "populated 1\nfrozen 0\n": the value of one line of a cgroup.events text.
std::optional<bool> parse_cgroup_event(std::string_view text, std::string_view name);

// The line "usage_usec N" of a cpu.stat text: CPU time in microseconds.
std::optional<std::uint64_t> parse_cpu_usage(std::string_view text);

}  // namespace procguard::sys
