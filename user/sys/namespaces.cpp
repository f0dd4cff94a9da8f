// SPDX-License-Identifier: Apache-2.0
#include "sys/namespaces.h"

#include <sys/stat.h>

namespace procguard::sys {
namespace {

// The kernel gives its first namespaces fixed inode numbers (PROC_PID_INIT_INO in its proc_ns.h).
constexpr ino_t kHostPidNamespace = 0xEFFFFFFC;

}  // namespace

bool in_host_pid_namespace() {
  struct stat status {};
  return ::stat("/proc/self/ns/pid", &status) == 0 && status.st_ino == kHostPidNamespace;
}

}  // namespace procguard::sys
