// SPDX-License-Identifier: Apache-2.0
// Burns CPU.
//   spin [--threads N] [--processes N] [--seconds SEC | --cpu SEC] [--ignore SIG,...]
// N threads (of each of N processes) run until --seconds of wall time, or until the process itself
// has used --cpu seconds; without either for its whole life. Prints "spun cpu_ms=N" at the end.
#include <sys/resource.h>

#include <thread>
#include <vector>

#include "common.h"

namespace {

using namespace programs;

void spin(double until_wall, double until_cpu) {
  // Enough arithmetic between two looks at the clock that the time is spent in user space.
  volatile uint64_t sink = 0;
  while (seconds_now() < until_wall && seconds_now(CLOCK_PROCESS_CPUTIME_ID) < until_cpu) {
    for (int i = 0; i < 20000; ++i) {
      sink = sink + static_cast<uint64_t>(i);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  int threads = 1;
  int processes = 1;
  double wall = 2 * kLifeSeconds;
  double cpu = 1e9;
  Args args(argc, argv);
  std::string v;
  while (args.more()) {
    if (args.value("--threads", &v)) {
      threads = static_cast<int>(parse_number(v));
    } else if (args.value("--processes", &v)) {
      processes = static_cast<int>(parse_number(v));
    } else if (args.value("--seconds", &v)) {
      wall = parse_number(v);
    } else if (args.value("--cpu", &v)) {
      cpu = parse_number(v);
    } else if (args.value("--ignore", &v)) {
      for (const int number : parse_signals(v)) {
        signal(number, SIG_IGN);
      }
    } else {
      usage(args.next());
    }
  }
  const double until = seconds_now() + wall;
  for (int p = 1; p < processes; ++p) {
    if (fork() == 0) {
      processes = 1;  // this one is a child: it waits for nobody
      break;
    }
  }
  limit_life();
  std::vector<std::thread> workers;
  for (int t = 1; t < threads; ++t) {
    workers.emplace_back(spin, until, cpu);
  }
  spin(until, cpu);
  for (auto& worker : workers) {
    worker.join();
  }
  say("spun cpu_ms=%.0f\n", seconds_now(CLOCK_PROCESS_CPUTIME_ID) * 1e3);
  while (processes > 1 && wait(nullptr) > 0) {
  }
  return 0;
}
