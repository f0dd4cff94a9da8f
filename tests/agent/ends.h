// SPDX-License-Identifier: Apache-2.0
// Ends: when processes end, as seen by a thread that waits for their pidfds, and by how much that
// thread was itself held up meanwhile.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <thread>

#include "core/clock.h"
#include "sys/fd.h"

namespace procguard::test {

core::Ns now_ns();
void sleep_ns(core::Ns length);

class Ends {
 public:
  Ends();
  Ends(const Ends&) = delete;
  Ends& operator=(const Ends&) = delete;
  ~Ends();

  // Before watch(). Its place.
  std::size_t add(pid_t pid);
  void watch();
  bool wait_for_all(std::chrono::nanoseconds deadline);
  // 0: it lives.
  core::Ns at(std::size_t place) const { return all_[place].at; }
  core::Ns longest_stall() const { return longest_stall_; }

 private:
  struct One {
    sys::Fd pidfd;
    std::atomic<core::Ns> at{0};
  };
  void run();

  sys::Fd epoll_;
  std::deque<One> all_;
  std::atomic<std::size_t> left_{0};
  std::atomic<core::Ns> longest_stall_{0};
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace procguard::test
