// SPDX-License-Identifier: Apache-2.0
#include "sys/namespaces.h"

#include <sys/stat.h>

namespace procguard::sys {
namespace {

// The kernel gives its first namespaces fixed inode numbers (PROC_PID_INIT_INO and the like in its
// proc_ns.h).
constexpr ino_t kHostUserNamespace = 0xEFFFFFFD;
constexpr ino_t kHostPidNamespace = 0xEFFFFFFC;

bool is_in(const char* path, ino_t space) {
  struct stat status {};
  return ::stat(path, &status) == 0 && status.st_ino == space;
}

}  // namespace

bool in_host_pid_namespace() {
  return is_in("/proc/self/ns/pid", kHostPidNamespace);
}

bool in_host_user_namespace() {
  return is_in("/proc/self/ns/user", kHostUserNamespace);
}

}  // namespace procguard::sys
