// SPDX-License-Identifier: Apache-2.0
// Executes a command from a thread that is not the leader: the thread takes over the leader's pid.
//   exec_by_thread -- COMMAND...
#include <pthread.h>

#include "common.h"

namespace {

void* exec_command(void* argv) {
  char** command = static_cast<char**>(argv);
  execvp(command[0], command);
  programs::fail(command[0]);
}

}  // namespace

int main(int argc, char** argv) {
  programs::Args args(argc, argv);
  programs::limit_life();
  pthread_t thread;
  if (pthread_create(&thread, nullptr, exec_command, args.command()) != 0) {
    programs::fail("pthread_create");
  }
  programs::sleep_for(programs::kLifeSeconds);
  return 3;
}
