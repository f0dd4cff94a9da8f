// SPDX-License-Identifier: Apache-2.0
// A big parent that forks a lot: touches RSS bytes, and then N times each
//   fork: the child writes to a few pages and exits, or every other time executes /bin/true;
//   vfork: the child executes /bin/true.
//   fork_exec_storm RSS N
// Up to 4 children live at the same time. Prints "stormed N".
#include <sys/mman.h>

#include "common.h"

namespace {

using namespace programs;

enum Way { kFork, kVforkExec, kForkExec };
constexpr Way kRound[] = {kFork, kVforkExec, kForkExec, kVforkExec};  // two of the N

void spawn(Way way, volatile char* memory, size_t size) {
  if (way == kVforkExec) {
    if (vfork() == 0) {  // NOLINT(clang-analyzer-security.insecureAPI.vfork): it is what is tested
      execl("/bin/true", "true", nullptr);
      _exit(3);
    }
    return;
  }
  if (fork() != 0) {  // failed: the count of children to wait for will not come out
    return;
  }
  if (way == kForkExec) {
    execl("/bin/true", "true", nullptr);
    _exit(3);
  }
  constexpr size_t kFewPages = 16;
  for (size_t i = 0; i < kFewPages * 4096 && i < size; i += 4096) {
    memory[i] = 2;
  }
  _exit(0);
}

}  // namespace

int main(int argc, char** argv) {
  constexpr int kMostChildren = 4;
  Args args(argc, argv);
  const size_t size = parse_bytes(args.next());
  const int count = static_cast<int>(parse_number(args.next()));
  limit_life(2 * kLifeSeconds);  // the machine may be busy: 12 s on two idle CPUs
  char* memory = static_cast<char*>(
      mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (memory == MAP_FAILED) {
    fail("mmap");
  }
  madvise(memory, size, MADV_NOHUGEPAGE);
  for (size_t i = 0; i < size; i += 4096) {
    memory[i] = 1;
  }
  int live = 0;
  for (int i = 0; i < 2 * count; ++i) {
    spawn(kRound[i % 4], memory, size);
    if (++live == kMostChildren) {
      int status = 0;
      if (wait(&status) < 0 || status != 0) {
        fail("a child");
      }
      --live;
    }
  }
  for (int status = 0; live > 0; --live) {
    if (wait(&status) < 0 || status != 0) {
      fail("a child");
    }
  }
  say("stormed %d\n", count);
  return 0;
}
