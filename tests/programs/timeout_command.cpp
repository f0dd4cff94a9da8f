// SPDX-License-Identifier: Apache-2.0
// A command with set answers to signals, without the races of a shell: its actions are in force
// before it prints "ready", and it has no children.
//   timeout_command [say N | exit N]...
// "say" prints "got N" and goes on, "exit" prints it and exits with 7.
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

int main(int argc, char** argv) {
  sigset_t awaited;
  ::sigemptyset(&awaited);
  sigset_t ending;
  ::sigemptyset(&ending);
  for (int i = 1; i + 1 < argc; i += 2) {
    const int signal = std::atoi(argv[i + 1]);
    ::sigaddset(&awaited, signal);
    if (std::strcmp(argv[i], "exit") == 0) {
      ::sigaddset(&ending, signal);
    }
  }
  ::sigprocmask(SIG_BLOCK, &awaited, nullptr);
  std::printf("ready\n");
  std::fflush(stdout);
  for (;;) {
    const int signal = ::sigwaitinfo(&awaited, nullptr);
    if (signal > 0) {
      std::printf("got %d\n", signal);
      std::fflush(stdout);
    }
    if (signal > 0 && ::sigismember(&ending, signal) == 1) {
      return 7;
    }
  }
}
