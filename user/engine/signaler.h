// SPDX-License-Identifier: Apache-2.0
// Signaler: the one way a signal leaves procguard. Injected: tests record instead of signalling.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "core/result.h"

namespace procguard::engine {

class Signaler {
 public:
  virtual ~Signaler() = default;
  // Sends through a verified pidfd. Error code: errno (ESRCH: gone, EPERM: refused).
  virtual Result<void> send(int pidfd, int signal) = 0;
  // Sends to one thread of a process whose identity the caller has just verified.
  virtual Result<void> send_thread(pid_t pid, pid_t tid, int signal) = 0;
  // Kills everything in a v2 cgroup and below it, forks in flight included. `id`: the directory's
  // inode number when the guard was armed.
  virtual Result<void> kill_cgroup(const std::string& path, std::uint64_t id) = 0;
};

}  // namespace procguard::engine
