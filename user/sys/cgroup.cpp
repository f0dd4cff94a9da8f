// SPDX-License-Identifier: Apache-2.0
#include "sys/cgroup.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <memory>

#include "sys/files.h"
#include "sys/procfs.h"

namespace procguard::sys {

namespace {

constexpr long kCgroupV2Magic = 0x63677270;  // CGROUP2_SUPER_MAGIC
constexpr int kMaxDepth = 256;               // one open directory a level while walking down

std::string quoted(const std::string& path) {
  return "'" + printable(path) + "'";
}

std::string join(const std::string& directory, std::string_view below) {
  while (below.starts_with('/')) {
    below.remove_prefix(1);
  }
  while (below.ends_with('/')) {
    below.remove_suffix(1);
  }
  if (below.empty()) {
    return directory;
  }
  return (directory == "/" ? "" : directory) + "/" + std::string(below);
}

bool has_dot_dot(std::string_view path) {
  return path == ".." || path.starts_with("../") || path.ends_with("/..") ||
         path.find("/../") != std::string_view::npos;
}

// The longest v1 mount point that `path` lies below.
std::optional<std::string> v1_point_of(const CgroupMounts& mounts, const std::string& path) {
  std::optional<std::string> longest;
  for (const auto& point : mounts.v1_points) {
    if (path_is_below(path, point) && (!longest || point.size() > longest->size())) {
      longest = point;
    }
  }
  return longest;
}

// The value of the line "NAME VALUE"; empty if there is none.
std::string_view value_of(std::string_view text, std::string_view name) {
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    if (line.size() > name.size() && line.starts_with(name) && line[name.size()] == ' ') {
      return line.substr(name.size() + 1);
    }
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return {};
}

// Adds the processes of `directory` and all below it.
Result<void> collect(int directory, int depth, std::vector<pid_t>& pids) {
  if (depth > kMaxDepth) {
    return Error::system("listing a cgroup nested deeper than " + std::to_string(kMaxDepth), ELOOP);
  }
  const auto text = read_file("cgroup.procs", directory);
  if (text) {
    const auto here = parse_pids(text.value());
    if (!here) {
      return Error("cgroup.procs: expected process numbers", EPROTO);
    }
    pids.insert(pids.end(), here->begin(), here->end());
  } else if (text.error().code() != EOPNOTSUPP || depth == 0) {
    // EOPNOTSUPP: a threaded cgroup; its processes are listed by the domain above it.
    return text.error();
  }
  const auto children = list_directory(".", directory, /*directories_only=*/true);
  if (!children) {
    return children.error();
  }
  for (const auto& name : children.value()) {
    const Fd child(::openat(directory, name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!child && errno == ENOENT) {
      continue;  // removed meanwhile: it was empty
    }
    if (!child) {
      return Error::system("opening the cgroup " + quoted(name), errno);
    }
    auto below = collect(child.get(), depth + 1, pids);
    if (!below && below.error().code() != ENODEV && below.error().code() != ENOENT) {
      return below;
    }
  }
  return {};
}

}  // namespace

bool path_is_below(std::string_view path, std::string_view ancestor) {
  if (ancestor == "/") {
    return path.starts_with('/');
  }
  return path.starts_with(ancestor) &&
         (path.size() == ancestor.size() || path[ancestor.size()] == '/');
}

CgroupMounts find_cgroup_mounts(const std::vector<Mount>& mounts) {
  CgroupMounts found;
  for (const auto& mount : mounts) {
    if (mount.type == "cgroup") {
      found.v1_points.push_back(mount.point);
    } else if (mount.type == "cgroup2" &&
               (!found.v2 || mount.root.size() < found.v2->root.size())) {
      // Mounted more than once: the one that shows most of the hierarchy.
      found.v2 = CgroupMounts::V2{.point = mount.point, .root = mount.root};
    }
  }
  return found;
}

Result<CgroupMounts> read_cgroup_mounts(const std::string& mountinfo) {
  const auto text = read_file(mountinfo);
  if (!text) {
    return text.error().in("looking for the cgroup v2 mount");
  }
  return find_cgroup_mounts(parse_mountinfo(text.value()));
}

Result<std::string> resolve_cgroup_path(const CgroupMounts& mounts, const std::string& path) {
  const std::string name = "cgroup " + quoted(path);
  if (path.empty()) {
    return Error("cgroup: expected a path, got an empty one", EINVAL);
  }
  if (has_dot_dot(path)) {
    return Error(name + ": expected a path without '..'", EINVAL);
  }
  if (path.find('\0') != std::string::npos) {
    return Error(name + ": expected a path without a zero byte", EINVAL);
  }
  if (!mounts.v2) {
    return Error(name + ": no cgroup v2 hierarchy is mounted (mount -t cgroup2 none DIR)", ENODEV);
  }
  const std::string& v2 = mounts.v2->point;
  const bool absolute = path.starts_with('/');
  if (absolute && path_is_below(path, v2)) {
    return join(v2, std::string_view(path).substr(v2 == "/" ? 0 : v2.size()));
  }
  if (const auto v1 = absolute ? v1_point_of(mounts, path) : std::nullopt) {
    return Error(name + " is a cgroup v1 path; use the v2 path " +
                     quoted(join(v2, std::string_view(path).substr(v1->size()))),
                 EMEDIUMTYPE);
  }
  // Below the hierarchy's root, of which the mount may show a part only.
  const std::string& root = mounts.v2->root;
  if (absolute && root != "/" && path_is_below(path, root)) {
    return join(v2, std::string_view(path).substr(root.size()));
  }
  return join(v2, path);
}

Result<Cgroup> Cgroup::open(const CgroupMounts& mounts, const std::string& path) {
  // systemd links v1 names ("cpu" -> "cpu,cpuacct"): what counts is where the path really leads.
  std::string real = path;
  if (path.starts_with('/')) {
    const std::unique_ptr<char, decltype(&std::free)> canonical(::realpath(path.c_str(), nullptr),
                                                                &std::free);
    real = canonical ? canonical.get() : path;
  }
  const auto resolved = resolve_cgroup_path(mounts, real);
  if (!resolved) {
    return resolved.error();
  }
  auto opened = open_resolved(resolved.value());
  if (!opened && opened.error().code() == ENOENT && path.starts_with('/') &&
      ::access(path.c_str(), F_OK) == 0) {
    return Error("cgroup " + quoted(path) + ": expected a directory below " +
                     quoted(mounts.v2->point) + ", where cgroup v2 is mounted",
                 EMEDIUMTYPE);
  }
  return opened;
}

Result<Cgroup> Cgroup::open_resolved(const std::string& path) {
  const std::string name = "cgroup " + quoted(path);
  Fd directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory) {
    return Error::system(name, errno);
  }
  struct statfs file_system {};
  struct stat status {};
  if (::fstatfs(directory.get(), &file_system) != 0 || ::fstat(directory.get(), &status) != 0) {
    return Error::system(name, errno);
  }
  if (file_system.f_type != kCgroupV2Magic) {
    return Error(name + ": expected a directory of the cgroup v2 file system", EMEDIUMTYPE);
  }
  const auto type = read_file("cgroup.type", directory.get());  // the root has none
  if (type && type.value().starts_with("threaded")) {
    return Error(name + " is threaded; use the domain cgroup above it", EOPNOTSUPP);
  }
  return Cgroup(path, status.st_ino, std::move(directory));
}

// A removed directory has no files any more: ENOENT then, and ENODEV for those that were open.
Error Cgroup::failed(const Error& error) const {
  const std::string name = "cgroup " + quoted(path_);
  const bool no_file = error.code() == ENOENT || error.code() == ENODEV;
  return no_file && !still_there() ? Error::system(name + " has been removed", ENODEV)
                                   : error.in(name);
}

Result<std::vector<pid_t>> Cgroup::processes() const {
  std::vector<pid_t> pids;
  if (const auto collected = collect(fd(), 0, pids); !collected) {
    return failed(collected.error());
  }
  // A process that moves while we walk is seen twice or not at all.
  std::sort(pids.begin(), pids.end());
  pids.erase(std::unique(pids.begin(), pids.end()), pids.end());
  return pids;
}

Result<bool> Cgroup::contains(pid_t pid) const {
  const auto mounts = read_cgroup_mounts();
  return mounts ? cgroup_contains(mounts.value(), id_, pid) : mounts.error();
}

Result<bool> cgroup_contains(const CgroupMounts& mounts, std::uint64_t id, pid_t pid) {
  const auto line = ProcRoot().cgroup(pid);
  if (!line) {
    return line.error();
  }
  auto directory = cgroup_directory(mounts, line.value());
  if (!directory) {
    return Error("the cgroup of process " + std::to_string(pid) + " is not to be seen", ENOENT);
  }
  for (std::string& path = *directory;; path.resize(path.rfind('/'))) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) {
      return Error::system("cgroup " + quoted(path), errno);
    }
    if (status.st_ino == id || path == mounts.v2->point) {
      return status.st_ino == id;
    }
  }
}

Result<bool> Cgroup::populated() const {
  const auto text = read_file("cgroup.events", fd());
  if (!text && text.error().code() == ENOENT && still_there()) {
    return true;  // the root has no such file, and init is in it or below
  }
  if (!text) {
    return failed(text.error());
  }
  return parse_cgroup_event(text.value(), "populated").value_or(true);
}

Result<bool> Cgroup::frozen() const {
  const auto text = read_file("cgroup.events", fd());
  if (!text) {
    return failed(text.error());
  }
  return parse_cgroup_event(text.value(), "frozen").value_or(false);
}

Result<void> Cgroup::kill() const {
  if (const auto written = write_file("cgroup.kill", "1", fd()); !written) {
    return failed(written.error()).in("killing it");
  }
  return {};
}

bool Cgroup::still_there() const {
  struct stat status {};
  return ::stat(path_.c_str(), &status) == 0 && status.st_ino == id_;
}

std::optional<std::string> cgroup_directory(const CgroupMounts& mounts, const CgroupLine& line) {
  // "/.." : outside of the reader's cgroup namespace.
  if (!mounts.v2 || line.deleted || has_dot_dot(line.path) ||
      !path_is_below(line.path, mounts.v2->root)) {
    return std::nullopt;
  }
  const std::size_t root = mounts.v2->root == "/" ? 0 : mounts.v2->root.size();
  return join(mounts.v2->point, std::string_view(line.path).substr(root));
}

std::optional<bool> parse_cgroup_event(std::string_view text, std::string_view name) {
  const std::string_view value = value_of(text, name);
  return value.empty() ? std::nullopt : std::optional(value == "1");
}

std::optional<std::uint64_t> parse_cpu_usage(std::string_view text) {
  const std::string_view value = value_of(text, "usage_usec");
  std::uint64_t usec = 0;
  const char* end = value.data() + value.size();
  const auto parsed = std::from_chars(value.data(), end, usec);
  return !value.empty() && parsed.ec == std::errc() && parsed.ptr == end ? std::optional(usec)
                                                                         : std::nullopt;
}

}  // namespace procguard::sys
