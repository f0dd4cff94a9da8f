// SPDX-License-Identifier: Apache-2.0
// Makes processes with a pid of the caller's choice (clone3 with set_tid; needs CAP_SYS_ADMIN or
// CAP_CHECKPOINT_RESTORE).
//   pid_recycle PID -- COMMAND...           runs COMMAND in a process with that pid
//   pid_recycle --again N -- COMMAND...     a child is made and ends; N - 1 times its pid is used
//                                           again for a child that ends at once, then for COMMAND
// Waits while the pid is in use, up to 10 s. Prints "recycled PID" before COMMAND runs and ends
// with its status (128 + N for a signal); 4 if the pid did not become free.
#include <linux/sched.h>
#include <sched.h>
#include <sys/syscall.h>

#include "common.h"

namespace {

using namespace programs;

// As fork, with the child's pid given (0 = any).
pid_t fork_as(pid_t pid) {
  clone_args arguments{};
  arguments.exit_signal = SIGCHLD;
  if (pid != 0) {
    arguments.set_tid = reinterpret_cast<uintptr_t>(&pid);
    arguments.set_tid_size = 1;
  }
  return static_cast<pid_t>(syscall(SYS_clone3, &arguments, sizeof arguments));
}

pid_t fork_as_when_free(pid_t pid) {
  const double end = seconds_now() + 10;
  for (;;) {
    const pid_t child = fork_as(pid);
    if (child >= 0) {
      return child;
    }
    if (errno != EEXIST) {
      fail("clone3 with set_tid");
    }
    if (seconds_now() > end) {
      exit(4);
    }
    sleep_for(0.0002);
  }
}

int end_of(pid_t pid) {
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace

int main(int argc, char** argv) {
  Args args(argc, argv);
  limit_life();
  pid_t pid = 0;
  int again = 0;
  std::string v;
  if (args.value("--again", &v)) {
    again = static_cast<int>(parse_number(v));
  } else {
    pid = static_cast<pid_t>(parse_number(args.next()));
  }
  char** command = args.command();
  for (int i = 0; i < again; ++i) {
    const pid_t child = fork_as_when_free(pid);
    if (child == 0) {
      _exit(0);
    }
    pid = child;
    end_of(child);
  }
  const pid_t child = fork_as_when_free(pid);
  if (child == 0) {
    limit_life();
    say("recycled %d\n", getpid());
    execvp(command[0], command);
    fail(command[0]);
  }
  return end_of(child);
}
