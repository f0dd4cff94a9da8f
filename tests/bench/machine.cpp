// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/machine.h"

#include <sys/resource.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <fstream>

#include "sys/sched_fifo.h"
#include "tests/bench/guarding.h"

namespace procguard::bench {
namespace {

std::string cpu_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name")) {
      return line.substr(line.find(':') + 2);
    }
  }
  return "unknown CPU";
}

std::string utc_now() {
  std::array<char, 32> text{};
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text.data();
}

}  // namespace

Others::Others() : at_start_(look()) {}

Others::Seconds Others::look() {
  Seconds now;
  std::ifstream file("/proc/stat");
  std::string label;
  file >> label;
  double ticks = 0;
  // user nice system idle iowait irq softirq steal: guest times are in user's already.
  for (int column = 0; column < 8 && file >> ticks; column++) {
    const double seconds = ticks / static_cast<double>(::sysconf(_SC_CLK_TCK));
    now.all += seconds;
    now.busy += column == 3 || column == 4 ? 0 : seconds;
  }
  for (const int who : {RUSAGE_SELF, RUSAGE_CHILDREN}) {
    rusage used{};
    ::getrusage(who, &used);
    for (const timeval& time : {used.ru_utime, used.ru_stime}) {
      now.ours += static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
    }
  }
  return now;
}

double Others::share() const {
  const Seconds now = look();
  const double all = now.all - at_start_.all;
  const double others = now.busy - at_start_.busy - (now.ours - at_start_.ours);
  return all <= 0 ? 0 : std::clamp(others / all, 0.0, 1.0);
}

Machine describe_machine() {
  Machine machine;
  utsname names{};
  ::uname(&names);
  machine.cpu = cpu_name();
  machine.cpus = static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN));
  machine.kernel = std::string(names.release) + " " + names.machine;
  machine.at = utc_now();
  {
    const Priority priority;
    machine.loop_priority = sys::current_scheduling().describe();
  }
  std::ifstream load("/proc/loadavg");
  double unused = 0;
  load >> machine.load_before >> unused >> unused >> machine.runnable_before;
  machine.runnable_before -= 1;  // ourselves
  return machine;
}

}  // namespace procguard::bench
