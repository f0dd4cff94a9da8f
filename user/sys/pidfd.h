// SPDX-License-Identifier: Apache-2.0
// pidfds: a hold on one process (or thread) that no recycled pid can take over. All functions may
// be called from any thread; error codes are errno values (ESRCH: it has ended and was reaped).
#pragma once

#include <sys/types.h>

#include "core/result.h"
#include "sys/fd.h"

namespace procguard::sys {

// A pidfd of the process whose leader is `pid`. What was read about the pid *before* this call may
// be about another process: verify after it.
Result<Fd> open_pidfd(pid_t pid);

// A pidfd of one thread. EINVAL where the kernel has none (before 6.9).
Result<Fd> open_thread_pidfd(pid_t tid);

// A second descriptor of the same pidfd.
Result<Fd> duplicate_fd(int fd);

// The number, in our pid namespace, of the process or thread that the pidfd holds. Errors: EBADF
// (no such descriptor), EINVAL (it is no pidfd), ESRCH (it has ended and was reaped, or has no
// number in our pid namespace).
Result<pid_t> pid_of_pidfd(int pidfd);

// Sends `signal` to what the pidfd holds: the process, or the one thread. 0 only checks.
Result<void> send_signal(int pidfd, int signal);

// Sends `signal` to thread `tid` if it belongs to process `pid` (tgkill).
Result<void> send_thread_signal(pid_t pid, pid_t tid, int signal);

// True when the process has ended (its last thread; a zombie has ended), or the held thread has.
Result<bool> has_exited(int pidfd);

// True if both processes run in the same address space (vfork, CLONE_VM). EPERM or ENOSYS where
// the kernel does not tell.
Result<bool> share_address_space(pid_t one, pid_t other);

}  // namespace procguard::sys
