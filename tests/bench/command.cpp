// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/command.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "sys/monotonic_clock.h"

namespace procguard::bench {

Result<pid_t> spawn(const Arguments& arguments) {
  std::vector<char*> argv;
  for (const std::string& argument : arguments) {
    argv.push_back(const_cast<char*>(argument.c_str()));
  }
  argv.push_back(nullptr);
  posix_spawn_file_actions_t files;
  ::posix_spawn_file_actions_init(&files);
  for (int fd = 0; fd < 3; fd++) {
    ::posix_spawn_file_actions_addopen(&files, fd, "/dev/null", O_RDWR, 0);
  }
  pid_t pid = 0;
  const int code = ::posix_spawnp(&pid, argv[0], &files, nullptr, argv.data(), environ);
  ::posix_spawn_file_actions_destroy(&files);
  if (code != 0) {
    return Error::system("starting " + arguments[0], code);
  }
  return pid;
}

Result<core::Ns> time_command(const Arguments& arguments) {
  const sys::MonotonicClock clock;
  const core::Ns before = clock.now();
  auto pid = spawn(arguments);
  if (!pid) {
    return pid.error();
  }
  int status = 0;
  while (::waitpid(pid.value(), &status, 0) < 0) {
    if (errno != EINTR) {
      return Error::system("waiting for " + arguments[0], errno);
    }
  }
  if (status != 0) {
    return Error(arguments[0] + " did not end with status 0 but with wait status " +
                 std::to_string(status));
  }
  return clock.now() - before;
}

}  // namespace procguard::bench
