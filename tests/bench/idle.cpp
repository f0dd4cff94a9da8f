// SPDX-License-Identifier: Apache-2.0
// What an idle `run` does while its command sleeps and no limit is near: nothing.
#include "tests/bench/idle.h"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <string>
#include <vector>

#include "sys/monotonic_clock.h"
#include "sys/procfs.h"
#include "tests/bench/command.h"
#include "tests/bench/concepts.h"

namespace procguard::bench {
namespace {

// Of all threads of a process.
Result<Activity> activity(pid_t pid) {
  const sys::ProcRoot proc;
  auto threads = proc.threads(pid);
  auto stat = proc.stat(pid);
  if (!threads || !stat) {
    return threads ? stat.error() : threads.error();
  }
  Activity sum;
  sum.ticks = static_cast<double>(stat->user_ticks + stat->system_ticks);
  for (const pid_t tid : threads.value()) {
    auto status = proc.thread_status(pid, tid);
    if (!status) {
      return status.error();
    }
    sum.switches += static_cast<double>(status->voluntary_switches);
  }
  return sum;
}

}  // namespace

Result<Activity> idle_for(pid_t pid, unsigned seconds) {
  ::usleep(700'000);
  auto before = activity(pid);
  ::sleep(seconds);
  auto after = activity(pid);
  if (!before || !after) {
    return before ? after.error() : before.error();
  }
  return Activity{.switches = after->switches - before->switches,
                  .ticks = after->ticks - before->ticks};
}

Result<Rows> measure_idle(const Settings& settings) {
  const auto seconds = static_cast<unsigned>(settings.rounds(10, 3));
  auto pid = spawn({settings.procguard, "run", "-t", "1h", "-m", "1G", "--memory-growth", "1G",
                    "--cpu", "1h", "--", "sleep", "60"});
  if (!pid) {
    return pid.error();
  }
  auto done = idle_for(pid.value(), seconds);
  ::kill(pid.value(), SIGTERM);  // forwarded to the command; `run` ends with it
  ::waitpid(pid.value(), nullptr, 0);
  if (!done) {
    return done.error();
  }
  const std::string note = "in " + std::to_string(seconds) + " s, all limits armed";
  return Rows{{.what = "idle run, wake-ups",
               .unit = Unit::kCount,
               .ours = done->switches,
               .bar = Bar::at_most(0),
               .note = note},
              {.what = "idle run, CPU ticks",
               .unit = Unit::kCount,
               .ours = done->ticks,
               .bar = Bar::at_most(0),
               .note = note}};
}

}  // namespace procguard::bench
