// SPDX-License-Identifier: Apache-2.0
// What the small programs that tests guard have in common: argv, sizes, signals, output, and a time
// after which each of them ends by itself, so that nothing is left behind when a test dies.
// Any mistake in argv ends the program with status 2; a failed system call with status 3.
#pragma once

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <string>
#include <vector>

namespace programs {

constexpr unsigned kLifeSeconds = 60;

[[noreturn]] inline void usage(const std::string& what) {
  dprintf(STDERR_FILENO, "%s: bad argument: %s\n", program_invocation_short_name, what.c_str());
  exit(2);
}

[[noreturn]] inline void fail(const char* what) {
  dprintf(STDERR_FILENO, "%s: %s: %s\n", program_invocation_short_name, what, strerror(errno));
  exit(3);
}

// SIGALRM ends this process after `seconds`, whatever it inherited or ignores. An alarm survives
// exec but not fork: each forked process calls this again.
inline void limit_life(unsigned seconds = kLifeSeconds) {
  signal(SIGALRM, SIG_DFL);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGALRM);
  sigprocmask(SIG_UNBLOCK, &set, nullptr);
  alarm(seconds);
}

// One line on stdout in one write, so that lines of several processes do not mix.
[[gnu::format(printf, 1, 2)]] inline void say(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vdprintf(STDOUT_FILENO, format, arguments);
  va_end(arguments);
}

inline double seconds_now(clockid_t clock = CLOCK_MONOTONIC) {
  timespec t{};
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}

// Sleeps to the end whatever signals are handled meanwhile.
inline void sleep_for(double seconds) {
  timespec left{};
  left.tv_sec = static_cast<time_t>(seconds);
  left.tv_nsec = static_cast<long>((seconds - static_cast<double>(left.tv_sec)) * 1e9);
  while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR) {
  }
}

// "4096", "64K", "2G" (powers of 1024) -> bytes.
inline size_t parse_bytes(const std::string& text) {
  char* end = nullptr;
  const size_t number = strtoull(text.c_str(), &end, 10);
  const std::string unit = end;
  const std::string units = "KMGT";
  if (unit.empty()) {
    return number;
  }
  const size_t index = units.find(unit[0]);
  if (unit.size() != 1 || index == std::string::npos) {
    usage(text);
  }
  return number << (10 * (index + 1));
}

inline double parse_number(const std::string& text) {
  char* end = nullptr;
  const double number = strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0') {
    usage(text);
  }
  return number;
}

// "INT" or "SIGINT" or "2" -> 2
inline int parse_signal(std::string name) {
  if (name.rfind("SIG", 0) == 0) {
    name = name.substr(3);
  }
  for (int number = 1; number < NSIG; ++number) {
    const char* abbreviation = sigabbrev_np(number);
    if ((abbreviation != nullptr && name == abbreviation) || name == std::to_string(number)) {
      return number;
    }
  }
  usage(name);
}

// "INT,TERM" -> {2, 15}
inline std::vector<int> parse_signals(const std::string& list) {
  std::vector<int> result;
  for (size_t at = 0; at < list.size();) {
    const size_t comma = list.find(',', at);
    const size_t end = comma == std::string::npos ? list.size() : comma;
    result.push_back(parse_signal(list.substr(at, end - at)));
    at = end + 1;
  }
  return result;
}

// Walks argv: `while (args.more()) { if (args.flag("--x")) ...; else if (args.value("--y", &s)) ...
// }`.
class Args {
 public:
  Args(int count, char** values) : rest_(values + 1, values + count), argv_(values + 1) {}

  bool more() const { return at_ < rest_.size(); }
  bool flag(const char* name) { return more() && rest_[at_] == name && ++at_ != 0; }
  bool value(const char* name, std::string* into) {
    if (!more() || rest_[at_] != name) {
      return false;
    }
    if (at_ + 1 >= rest_.size()) {
      usage(rest_[at_] + " needs a value");
    }
    *into = rest_[at_ + 1];
    at_ += 2;
    return true;
  }
  std::string next() { return more() ? rest_[at_++] : (usage("missing argument"), ""); }
  // The rest as an argv for exec; skips one leading "--".
  char** command() {
    flag("--");
    if (!more()) {
      usage("missing command");
    }
    return argv_ + at_;
  }

 private:
  std::vector<std::string> rest_;
  char** argv_;
  size_t at_ = 0;
};

}  // namespace programs
