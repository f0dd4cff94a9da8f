// SPDX-License-Identifier: Apache-2.0
// A tree that tries to get away: a parent; a daemon (double fork, setsid) that ignores INT, TERM
// and HUP and holds no descriptor; under it three processes of the same kind, one in a session of
// its own. Prints "ready" once all have got so far, and then sleeps.
//   setsid_tree [--exit CODE] [--seconds SEC]
// --exit: the parent ends with CODE when all are ready; the others go on for SEC (default: life).
#include <linux/close_range.h>
#include <sys/mman.h>

#include <atomic>

#include "common.h"

namespace {

using namespace programs;

constexpr int kGrandchildren = 3;
std::atomic<int>* ready_count;  // shared by all of the tree
double life = kLifeSeconds;

[[noreturn]] void stay() {
  signal(SIGINT, SIG_IGN);
  signal(SIGTERM, SIG_IGN);
  signal(SIGHUP, SIG_IGN);
  limit_life();
  close_range(0, ~0U, 0);
  ++*ready_count;
  sleep_for(life);
  _exit(0);
}

[[noreturn]] void be_daemon() {
  for (int i = 0; i < kGrandchildren; ++i) {
    if (fork() == 0) {
      if (i == 0) {
        setsid();
      }
      stay();
    }
  }
  stay();
}

}  // namespace

int main(int argc, char** argv) {
  int exit_code = -1;
  Args args(argc, argv);
  std::string v;
  while (args.more()) {
    if (args.value("--exit", &v)) {
      exit_code = static_cast<int>(parse_number(v));
    } else if (args.value("--seconds", &v)) {
      life = parse_number(v);
    } else {
      usage(args.next());
    }
  }
  limit_life();
  void* page = mmap(nullptr, sizeof(*ready_count), PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) {
    fail("mmap");
  }
  ready_count = new (page) std::atomic<int>(0);
  const pid_t middle = fork();
  if (middle < 0) {
    fail("fork");
  }
  if (middle == 0) {
    setsid();
    if (fork() == 0) {
      be_daemon();
    }
    _exit(0);
  }
  waitpid(middle, nullptr, 0);
  while (*ready_count != kGrandchildren + 1) {
    sleep_for(0.001);
  }
  say("ready %d\n", getpid());
  if (exit_code >= 0) {
    return exit_code;
  }
  sleep_for(life);
  return 0;
}
