// SPDX-License-Identifier: Apache-2.0
// Sleeps, and tells about signals.
//   sleeper [--ignore SIG,...] [--trap SIG,...] [--exit-on SIG:CODE] [--seconds SEC]
//           [--close-fds] [--unready]
// Prints "ready PID" once its handlers are installed, and "got NAME" (with " from PID" where the
// sender is known) for each trapped signal, after which it goes on. --exit-on ends it with CODE.
// After --seconds (default: its whole life) it prints "slept" and ends with 0.
// --close-fds: closes every descriptor after "ready". --unready: says nothing at the start.
#include <fcntl.h>
#include <linux/close_range.h>

#include "common.h"

namespace {

using namespace programs;

int exit_codes[NSIG];
bool traps[NSIG];

}  // namespace

int main(int argc, char** argv) {
  double seconds = 2 * kLifeSeconds;
  bool close_fds = false;
  bool ready = true;
  sigset_t handled;
  sigemptyset(&handled);
  Args args(argc, argv);
  std::string v;
  while (args.more()) {
    if (args.value("--ignore", &v)) {
      for (const int number : parse_signals(v)) {
        signal(number, SIG_IGN);
      }
    } else if (args.value("--trap", &v)) {
      for (const int number : parse_signals(v)) {
        traps[number] = true;
        sigaddset(&handled, number);
      }
    } else if (args.value("--exit-on", &v)) {
      const size_t colon = v.find(':');
      const int number = parse_signal(v.substr(0, colon));
      exit_codes[number] = static_cast<int>(parse_number(v.substr(colon + 1)));
      sigaddset(&handled, number);
    } else if (args.value("--seconds", &v)) {
      seconds = parse_number(v);
    } else if (args.flag("--close-fds")) {
      close_fds = true;
    } else if (args.flag("--unready")) {
      ready = false;
    } else {
      usage(args.next());
    }
  }
  limit_life();
  // Blocked and taken one by one: none is lost or merged between two looks, save two of a number.
  sigprocmask(SIG_BLOCK, &handled, nullptr);
  if (ready) {
    say("ready %d\n", getpid());
  }
  if (close_fds) {
    close_range(0, ~0U, 0);
  }
  const double end = seconds_now() + seconds;
  for (;;) {
    const double left = end - seconds_now();
    if (left <= 0) {
      break;
    }
    const timespec wait{
        static_cast<time_t>(left),
        static_cast<long>((left - static_cast<double>(static_cast<time_t>(left))) * 1e9)};
    siginfo_t info{};
    const int number = sigtimedwait(&handled, &info, &wait);
    if (number <= 0) {
      continue;
    }
    say("got %s from %d\n", sigabbrev_np(number), info.si_code <= 0 ? info.si_pid : 0);
    if (!traps[number]) {
      return exit_codes[number];
    }
  }
  say("slept\n");
  return 0;
}
