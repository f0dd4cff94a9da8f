// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/machine.h"

#include <sys/utsname.h>
#include <unistd.h>

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
