// SPDX-License-Identifier: Apache-2.0
// Runs a command as its child subreaper, waits for it and for every orphan it leaves, and writes
// one line for each into OUT: "pid status maxrss_kib cpu_us" (status as wait(2) has it).
//   reap OUT [--kill-orphans] -- COMMAND...
// Ends with the command's status (128 + N for a signal); ignores INT and TERM itself, so that it
// can stand inside a guarded tree and outlive the command by a moment. Orphans are waited for until
// all have ended; with --kill-orphans they are killed as soon as the command has ended.
#include <dirent.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "common.h"

namespace {

using namespace programs;

void kill_children() {
  const std::string path = "/proc/self/task/" + std::to_string(getpid()) + "/children";
  if (FILE* file = fopen(path.c_str(), "re")) {
    for (int pid = 0; fscanf(file, "%d", &pid) == 1;) {
      kill(pid, SIGKILL);  // ours until we wait for it: the pid cannot be another's
    }
    fclose(file);
  }
}

}  // namespace

int main(int argc, char** argv) {
  Args args(argc, argv);
  const std::string path = args.next();
  const bool kill_orphans = args.flag("--kill-orphans");
  char** command = args.command();
  const int out = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (out < 0) {
    fail(path.c_str());
  }
  limit_life();
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  const pid_t child = fork();
  if (child < 0) {
    fail("fork");
  }
  if (child == 0) {
    execvp(command[0], command);
    fail(command[0]);
  }
  signal(SIGINT, SIG_IGN);
  signal(SIGTERM, SIG_IGN);
  int result = 0;
  bool ended = false;
  for (;;) {
    int status = 0;
    rusage used{};
    const pid_t pid = wait4(-1, &status, 0, &used);
    if (pid < 0 && errno == EINTR) {
      continue;
    }
    if (pid < 0) {
      break;
    }
    const long cpu_us = (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000L +
                        used.ru_utime.tv_usec + used.ru_stime.tv_usec;
    dprintf(out, "%d %d %ld %ld\n", pid, status, used.ru_maxrss, cpu_us);
    if (pid == child) {
      ended = true;
      result = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    }
    if (ended && kill_orphans) {
      kill_children();
    }
  }
  return result;
}
