// SPDX-License-Identifier: Apache-2.0
// What the tests of in-process guards have in common: real threads, real time, real signals.
// Upper bounds are generous (the machine is shared); lower ones are strict: a guard is never early.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <csignal>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "procguard/procguard.hpp"

namespace procguard::test {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;  // CLOCK_MONOTONIC, as the guards'

// Long enough for whatever must happen at last.
inline constexpr auto kPatience = 30s;
// How late something may be on a busy machine.
inline constexpr auto kSlack = 10s;

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

// A signal that a handler got.
struct Caught {
  int signal = 0;
  pid_t tid = 0;
  Clock::time_point at{};
};

// Handles SIGINT and SIGTERM while it lives, and writes down what came.
class SignalCatcher {
 public:
  // `tell`: a pipe that each signal's number is written to.
  explicit SignalCatcher(int tell = -1);
  SignalCatcher(const SignalCatcher&) = delete;
  SignalCatcher& operator=(const SignalCatcher&) = delete;
  ~SignalCatcher();

  static std::vector<Caught> caught();
  static std::size_t count();

 private:
  struct sigaction int_ {};
  struct sigaction term_ {};
};

// Calls checkpoint() until it throws something, for as long as patience lasts; what it threw.
template <typename Exception>
Trip wait_for(std::chrono::nanoseconds patience = kPatience) {
  const auto until = Clock::now() + patience;
  while (Clock::now() < until) {
    try {
      checkpoint();
    } catch (const Exception& exception) {
      return exception.trip();
    }
    std::this_thread::yield();
  }
  throw std::runtime_error("nothing was thrown");
}

// Takes up exceptions until the ladder's last. A slow machine may take up two as one, the later of
// them; but each comes after the one before it.
template <typename Exception>
std::vector<Trip> wait_for_last() {
  std::vector<Trip> trips;
  do {
    const Trip trip = wait_for<Exception>();
    if (trip.step > 2 || (!trips.empty() && trip.step <= trips.back().step)) {
      throw std::runtime_error("step " + std::to_string(trip.step) + " out of order");
    }
    trips.push_back(trip);
  } while (!trips.back().last);
  return trips;
}

// True if nothing is thrown at this thread for that long.
bool quiet_for(std::chrono::nanoseconds time);

// Runs `body` in a forked child, with no more signal handlers than the library's own and
// `variables`
// ("NAME=value") in the environment. Its wait status; SIGALRM ends it when patience does.
// The body fails by require(), which the parent sees as exit status 1.
int in_child(const std::function<void()>& body, const std::vector<std::string>& variables = {});
std::string describe_status(int status);
// In a child's body: where gtest's expectations would be lost.
void require(bool condition, const char* what);
#define REQUIRE_IN_CHILD(condition) ::procguard::test::require((condition), #condition)
#define EXPECT_CHILD_OK(status) EXPECT_EQ(status, 0) << ::procguard::test::describe_status(status)

// Pages that can be touched and given back, 4 KiB each. Never the allocator's, which keeps some.
class Pages {
 public:
  explicit Pages(Bytes size);
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  ~Pages();

  void touch(std::size_t from, std::size_t to);
  void touch() { touch(0, size_); }
  void give_back();
  std::size_t size() const { return size_; }

 private:
  std::size_t size_;
  volatile char* data_;
};

// /proc/self/task/TID of the thread with this name; 0: there is none.
pid_t thread_named(const std::string& name);
// A line of /proc/self/task/TID/status, as a number: "voluntary_ctxt_switches".
long status_number(pid_t tid, const std::string& key);
std::uint64_t rss_bytes();
// Open file descriptors.
std::size_t open_fds();

}  // namespace procguard::test
