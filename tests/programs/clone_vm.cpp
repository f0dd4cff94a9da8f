// SPDX-License-Identifier: Apache-2.0
// Two processes, one address space: a parent touches SIZE bytes, a child made with CLONE_VM (not a
// thread) touches MORE bytes of the same space, and both hold them.
//   clone_vm SIZE MORE [--hold SEC]
// Prints "parent PID child PID" when all is touched, and "held" after --hold seconds (default 0).
#include <sched.h>
#include <sys/mman.h>

#include <atomic>

#include "common.h"

namespace {

using namespace programs;

size_t more;
std::atomic<bool> touched{false};
std::atomic<bool> may_end{false};

char* touch_fresh(size_t size) {
  void* at = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) {
    fail("mmap");
  }
  madvise(at, size, MADV_NOHUGEPAGE);
  for (size_t i = 0; i < size; i += 4096) {
    static_cast<volatile char*>(at)[i] = 1;
  }
  return static_cast<char*>(at);
}

int child(void*) {
  limit_life();
  touch_fresh(more);
  touched = true;
  while (!may_end) {
    sleep_for(0.001);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  constexpr size_t kStack = 1UL << 18;
  Args args(argc, argv);
  const size_t size = parse_bytes(args.next());
  more = parse_bytes(args.next());
  double hold = 0;
  std::string v;
  if (args.value("--hold", &v)) {
    hold = parse_number(v);
  }
  limit_life();
  touch_fresh(size);
  char* stack = touch_fresh(kStack);
  const pid_t pid = clone(child, stack + kStack, CLONE_VM | SIGCHLD, nullptr);
  if (pid < 0) {
    fail("clone");
  }
  while (!touched) {
    if (waitpid(pid, nullptr, WNOHANG) == pid) {
      return 4;  // the child was ended before it was done
    }
    sleep_for(0.001);
  }
  say("parent %d child %d\n", getpid(), pid);
  sleep_for(hold);
  may_end = true;
  waitpid(pid, nullptr, 0);
  say("held\n");
  return 0;
}
