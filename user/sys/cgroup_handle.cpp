// SPDX-License-Identifier: Apache-2.0
#include "sys/cgroup_handle.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "sys/fd.h"
#include "sys/files.h"

namespace procguard::sys {

namespace {

constexpr int kFileIdKernfs = 0xfe;  // FILEID_KERNFS: the handle is the id

// ESTALE: nothing has this id. ENOTDIR: a file of a cgroup has it.
Result<Fd> open_by_id(std::uint64_t id, int mount) {
  alignas(file_handle) std::array<std::byte, sizeof(file_handle) + sizeof(id)> room{};
  auto* handle = reinterpret_cast<file_handle*>(room.data());
  handle->handle_bytes = sizeof(id);
  handle->handle_type = kFileIdKernfs;
  std::memcpy(handle->f_handle, &id, sizeof(id));
  Fd directory(::open_by_handle_at(mount, handle, O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!directory) {
    const bool gone = errno == ESTALE || errno == ENOTDIR;
    return Error::system("opening it by its id", gone ? ENOENT : errno);
  }
  return directory;
}

}  // namespace

Result<std::string> cgroup_path_of(std::uint64_t id, const std::string& mount_point) {
  const std::string name = "cgroup with id " + std::to_string(id);
  const Fd mount(::open(mount_point.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct statfs file_system {};
  if (!mount || ::fstatfs(mount.get(), &file_system) != 0) {
    return Error::system(name + ": " + mount_point, errno);
  }
  if (file_system.f_type != CGROUP2_SUPER_MAGIC) {
    return Error(name + ": expected cgroup v2 to be mounted at " + mount_point, EMEDIUMTYPE);
  }
  const auto directory = open_by_id(id, mount.get());
  if (!directory) {
    return directory.error().in(name);
  }
  auto path = read_link("/proc/self/fd/" + std::to_string(directory.value().get()));
  if (!path) {
    return path.error().in(name);
  }
  // Removed meanwhile, or not below what is mounted: then the text leads nowhere, or elsewhere.
  struct stat there {};
  struct stat held {};
  if (::fstat(directory.value().get(), &held) != 0 || ::stat(path.value().c_str(), &there) != 0 ||
      there.st_dev != held.st_dev || there.st_ino != held.st_ino) {
    return Error::system(name, ENOENT);
  }
  return path;
}

}  // namespace procguard::sys
