// SPDX-License-Identifier: Apache-2.0
// Grows its RSS.
//   touch SIZE [--threads N] [--shmem | --file PATH | --huge] [--via store|read|populate]
//         [--step SIZE --pause SEC] [--spike SIZE:SEC]... [--hold SEC] [--daemon]
//         [--ignore SIG,...] [--release-on SIG] [--fork SIZE] [--exec COMMAND...]
// First touches SIZE bytes of fresh pages (4 KiB unless --huge) at full speed, or --step bytes at a
// time with a pause after each. Then, for each --spike in turn, touches SIZE more, holds it for SEC
// and gives it back. Then holds everything for --hold seconds and prints
// "survived hwm_kib=N maxrss_kib=N". --exec: then becomes COMMAND. --fork: before it holds, it
// forks a child that touches SIZE fresh bytes and holds as long; it waits for that one.
//   --daemon: all that happens in a grandchild after double fork and setsid; the first process
//     waits until that one has ended.
//   --release-on SIG: on SIG it stops growing, gives all back, prints "released" and goes on.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "common.h"

namespace {

using namespace programs;

constexpr size_t kPage = 4096;

struct Options {
  size_t size = 0;
  int threads = 1;
  bool shmem = false;
  bool huge = false;
  bool daemon = false;
  std::string file;
  std::string via = "store";
  size_t step = 0;
  double pause = 0;
  double hold = 0;
  std::vector<std::pair<size_t, double>> spikes;
  std::vector<int> ignored;
  int release_on = 0;
  size_t fork_size = 0;
  char** exec = nullptr;
};

std::atomic<bool> stop_growing{false};

Options parse(int argc, char** argv) {
  Options o;
  Args args(argc, argv);
  o.size = parse_bytes(args.next());
  std::string v;
  while (args.more()) {
    if (args.value("--threads", &v)) {
      o.threads = static_cast<int>(parse_number(v));
    } else if (args.flag("--shmem")) {
      o.shmem = true;
    } else if (args.flag("--huge")) {
      o.huge = true;
    } else if (args.flag("--daemon")) {
      o.daemon = true;
    } else if (args.value("--file", &o.file) || args.value("--via", &o.via)) {
    } else if (args.value("--step", &v)) {
      o.step = parse_bytes(v);
    } else if (args.value("--pause", &v)) {
      o.pause = parse_number(v);
    } else if (args.value("--fork", &v)) {
      o.fork_size = parse_bytes(v);
    } else if (args.value("--hold", &v)) {
      o.hold = parse_number(v);
    } else if (args.value("--spike", &v)) {
      const size_t colon = v.find(':');
      if (colon == std::string::npos) {
        usage(v);
      }
      o.spikes.emplace_back(parse_bytes(v.substr(0, colon)), parse_number(v.substr(colon + 1)));
    } else if (args.value("--ignore", &v)) {
      o.ignored = parse_signals(v);
    } else if (args.value("--release-on", &v)) {
      o.release_on = parse_signal(v);
    } else if (args.flag("--exec")) {
      o.exec = args.command();
      break;
    } else {
      usage(args.next());
    }
  }
  return o;
}

// Opening a file is not part of growing: /dev/zero for --via read, the mapped file for --file.
int open_backing(const Options& o) {
  if (o.via == "read") {
    const int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    return fd >= 0 ? fd : (fail("/dev/zero"), -1);
  }
  if (!o.file.empty()) {
    const int fd = open(o.file.c_str(), O_RDWR | O_CLOEXEC);
    return fd >= 0 ? fd : (fail(o.file.c_str()), -1);
  }
  return -1;
}

char* map_fresh(const Options& o, size_t size, int backing) {
  const bool file = !o.file.empty();
  const int kind = file ? MAP_SHARED : (o.shmem ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS;
  const int populate = o.via == "populate" ? MAP_POPULATE : 0;
  void* at = mmap(nullptr, size, PROT_READ | PROT_WRITE, kind | MAP_NORESERVE | populate,
                  file ? backing : -1, 0);
  if (at == MAP_FAILED) {
    fail("mmap");
  }
  if (!file) {
    madvise(at, size, o.huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  }
  return static_cast<char*>(at);
}

void touch(const Options& o, char* from, size_t bytes, int backing) {
  if (o.via == "read") {
    for (size_t done = 0; done < bytes && !stop_growing;) {
      const ssize_t n = read(backing, from + done, std::min<size_t>(bytes - done, 1UL << 30));
      done += n > 0 ? static_cast<size_t>(n) : 0;
    }
    return;
  }
  for (size_t i = 0; i < bytes && !stop_growing; i += kPage) {
    if (o.file.empty()) {
      const_cast<volatile char*>(from)[i] = 1;
    } else {
      (void)const_cast<volatile char*>(from)[i];
    }
    if (o.step != 0 && (i + kPage) % o.step == 0) {
      sleep_for(o.pause);
    }
  }
}

char* grow(const Options& o, size_t size, int backing) {
  char* at = map_fresh(o, size, backing);
  if (o.via == "populate") {
    return at;
  }
  const size_t part = size / static_cast<size_t>(o.threads) / kPage * kPage;
  std::vector<std::thread> workers;
  for (int t = 1; t < o.threads; ++t) {
    workers.emplace_back(touch, std::cref(o), at + static_cast<size_t>(t) * part, part, backing);
  }
  touch(o, at, o.threads == 1 ? size : part, backing);
  for (auto& worker : workers) {
    worker.join();
  }
  return at;
}

long high_water_kib() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmHWM:", 0) == 0) {
      return strtol(line.c_str() + 6, nullptr, 10);
    }
  }
  return -1;
}

void grow_and_tell(const Options& o) {
  for (const int number : o.ignored) {
    signal(number, SIG_IGN);
  }
  if (o.release_on != 0) {
    signal(o.release_on, [](int) { stop_growing = true; });
  }
  const int backing = open_backing(o);
  char* base = o.size != 0 ? grow(o, o.size, backing) : nullptr;
  for (const auto& [size, seconds] : o.spikes) {
    char* spike = grow(o, size, backing);
    sleep_for(seconds);
    munmap(spike, size);
  }
  if (o.fork_size != 0 && fork() == 0) {
    limit_life();
    grow(o, o.fork_size, backing);
    sleep_for(o.hold);
    _exit(0);
  }
  const double end = seconds_now() + o.hold;
  bool released = false;
  do {
    if (stop_growing && !released) {
      munmap(base, o.size);
      released = true;
      say("released\n");
    }
    const double left = end - seconds_now();
    if (left > 0) {
      const timespec pause{
          static_cast<time_t>(left),
          static_cast<long>((left - static_cast<double>(static_cast<time_t>(left))) * 1e9)};
      nanosleep(&pause, nullptr);  // a handled signal ends it early, and the loop looks again
    }
  } while (seconds_now() < end);
  while (o.fork_size != 0 && wait(nullptr) > 0) {
  }
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  say("survived hwm_kib=%ld maxrss_kib=%ld\n", high_water_kib(), used.ru_maxrss);
  if (o.exec != nullptr) {
    execvp(o.exec[0], o.exec);
    fail(o.exec[0]);
  }
}

// Runs in a grandchild that left session and parent; the caller waits by a pipe that only the
// grandchild holds open, since it cannot wait(2) for it.
void grow_as_daemon(const Options& o) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    fail("pipe");
  }
  const pid_t middle = fork();
  if (middle < 0) {
    fail("fork");
  }
  if (middle == 0) {
    setsid();
    if (fork() != 0) {
      _exit(0);
    }
    limit_life();
    close(ends[0]);
    grow_and_tell(o);
    _exit(0);
  }
  close(ends[1]);
  waitpid(middle, nullptr, 0);
  char byte = 0;
  while (read(ends[0], &byte, 1) < 0 && errno == EINTR) {
  }
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  limit_life();
  if (options.daemon) {
    grow_as_daemon(options);
  } else {
    grow_and_tell(options);
  }
  return 0;
}
