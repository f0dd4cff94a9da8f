// SPDX-License-Identifier: Apache-2.0
// PidfdSignaler: the real Signaler. Sends through pidfds, tgkill and cgroup.kill; keeps nothing.
// The caller has proven what the pidfd holds (Source::open_member) and whom not to touch
// (Executor). Any thread.
#pragma once

#include <string>

#include "core/result.h"
#include "engine/signaler.h"

namespace procguard::engine {

class PidfdSignaler final : public Signaler {
 public:
  Result<void> send(int pidfd, int signal) override;
  Result<void> send_thread(pid_t pid, pid_t tid, int signal) override;
  // EPERM: the cgroup holds this very process, which would be killed too.
  Result<void> kill_cgroup(const std::string& path, std::uint64_t id) override;
};

}  // namespace procguard::engine
