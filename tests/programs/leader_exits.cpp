// SPDX-License-Identifier: Apache-2.0
// The leader thread ends; another goes on alone and
//   leader_exits touch SIZE | spin SEC | sleep SEC
// grows by SIZE at full speed, burns CPU for SEC or sleeps for SEC. Prints "ready" before that and
// "done" after it.
#include <pthread.h>
#include <sys/mman.h>

#include <fstream>

#include "common.h"

namespace {

using namespace programs;

std::string verb;
std::string amount;

void wait_for_end_of_leader() {
  const std::string path = "/proc/self/task/" + std::to_string(getpid()) + "/stat";
  for (;;) {
    std::ifstream file(path);
    std::string text;
    std::getline(file, text);
    const size_t end = text.rfind(')');
    if (end == std::string::npos || text[end + 2] == 'Z') {
      return;
    }
    sleep_for(0.001);
  }
}

void* go_on(void*) {
  wait_for_end_of_leader();
  say("ready\n");
  if (verb == "touch") {
    const size_t size = parse_bytes(amount);
    void* at = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    madvise(at, size, MADV_NOHUGEPAGE);
    for (size_t i = 0; at != MAP_FAILED && i < size; i += 4096) {
      static_cast<volatile char*>(at)[i] = 1;
    }
  } else if (verb == "spin") {
    const double end = seconds_now() + parse_number(amount);
    while (seconds_now() < end) {
    }
  } else {
    sleep_for(parse_number(amount));
  }
  say("done\n");
  exit(0);
}

}  // namespace

int main(int argc, char** argv) {
  Args args(argc, argv);
  verb = args.next();
  amount = args.next();
  if (verb != "touch" && verb != "spin" && verb != "sleep") {
    usage(verb);
  }
  limit_life();
  pthread_t thread;
  if (pthread_create(&thread, nullptr, go_on, nullptr) != 0) {
    fail("pthread_create");
  }
  pthread_exit(nullptr);
}
