// SPDX-License-Identifier: Apache-2.0
// EventLoop: one epoll set and one timerfd (CLOCK_MONOTONIC, absolute). Single-threaded. It makes
// no wake-up of its own: with no fd ready and no deadline it sleeps for good.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>

#include "core/clock.h"
#include "core/result.h"
#include "sys/fd.h"

namespace procguard::sys {

class EventLoop {
 public:
  using Handler = std::function<void(std::uint32_t events)>;

  static Result<EventLoop> create();

  // `fd` is borrowed and must outlive its registration. `events`: EPOLLIN, ... An fd that is
  // registered already is an error (EEXIST).
  Result<void> add(int fd, std::uint32_t events, Handler handler);
  // What to wait for on an fd that is registered.
  Result<void> change(int fd, std::uint32_t events);
  void remove(int fd);

  // Calls `handler` once when the clock reaches `at_ns`; kNever disarms. One timer a loop; setting
  // the time it already has costs no system call.
  Result<void> set_timer(core::Ns at_ns);
  void on_timer(std::function<void()> handler);

  // Waits until something happens and calls the handlers. A handler may add and remove fds. Also
  // returns, with nothing called, when a signal handler of the host interrupted the wait.
  Result<void> run_once();
  // run_once() until stop() was called. A stop() from before run() counts.
  Result<void> run();
  void stop() { stopped_ = true; }

 private:
  EventLoop(Fd epoll, Fd timer);
  void fire_timer();

  Fd epoll_;
  Fd timer_;
  core::Ns timer_at_ = core::kNever;
  std::map<int, std::shared_ptr<Handler>> handlers_;
  std::function<void()> timer_handler_;
  bool stopped_ = false;
};

}  // namespace procguard::sys
