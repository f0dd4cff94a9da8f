// SPDX-License-Identifier: Apache-2.0
#include "agent/descriptors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "sys/cgroup.h"
#include "sys/files.h"

namespace procguard::agent {
namespace {

// More takes long to free for whoever closes it last.
constexpr off_t kSmall = off_t{1} << 20;

std::optional<dev_t> device_of(int fd) {
  struct stat about {};
  return fd >= 0 && ::fstat(fd, &about) == 0 ? std::optional(about.st_dev) : std::nullopt;
}

bool small_for_good(int memfd) {
  struct stat about {};
  const int seals = ::fcntl(memfd, F_GET_SEALS);
  return seals >= 0 && (seals & F_SEAL_GROW) != 0 && ::fstat(memfd, &about) == 0 &&
         about.st_size <= kSmall;
}

}  // namespace

Descriptors::Descriptors() {
  const sys::Fd memfd(::memfd_create("procguard-probe", MFD_CLOEXEC));
  memfd_device_ = device_of(memfd.get());
  in_hierarchy("");
}

void Descriptors::screen(std::vector<sys::Fd>& fds, uid_t giver) {
  for (sys::Fd& fd : fds) {
    if (!harmless(fd.get())) {
      closer_.close(std::move(fd), giver);
    }
  }
}

// By its name first, which the kernel keeps. Names that are no paths are the kernel's own. A path
// can be like any in a client's mount namespace, the device cannot: asked for nothing but that, and
// not to wait, no file system asks whoever serves it.
bool Descriptors::harmless(int fd) {
  const auto name = sys::read_link("/proc/self/fd/" + std::to_string(fd));
  if (!name) {
    return false;
  }
  if (name.value() == "anon_inode:[pidfd]" || name->starts_with("pidfd:[")) {
    return true;
  }
  const bool memfd = name->starts_with("/memfd:");
  struct statx about {};
  if ((!memfd && !in_hierarchy(name.value())) ||
      ::statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0, &about) != 0) {
    return false;
  }
  const dev_t device = ::makedev(about.stx_dev_major, about.stx_dev_minor);
  return memfd ? device == memfd_device_ && small_for_good(fd)
               : device == v2_device_ && S_ISDIR(about.stx_mode);
}

// It may be mounted after the agent's start.
bool Descriptors::in_hierarchy(const std::string& text) {
  if (v2_point_.empty()) {
    const auto mounts = sys::read_cgroup_mounts();
    if (!mounts || !mounts->v2) {
      return false;
    }
    const sys::Fd root(::open(mounts->v2->point.c_str(), O_PATH | O_CLOEXEC));
    v2_device_ = device_of(root.get());
    v2_point_ = mounts->v2->point;
  }
  return sys::path_is_below(text, v2_point_);
}

}  // namespace procguard::agent
