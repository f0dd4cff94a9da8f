// SPDX-License-Identifier: Apache-2.0
#include "sys/event_loop.h"

#include <sys/epoll.h>
#include <sys/timerfd.h>

#include <array>
#include <cerrno>
#include <string>
#include <utility>
#include <vector>

namespace procguard::sys {

namespace {

Result<void> epoll_add(int epoll, int fd, std::uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.fd = fd;
  if (::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
    return Error::system("epoll_ctl(ADD, fd " + std::to_string(fd) + ")", errno);
  }
  return {};
}

}  // namespace

EventLoop::EventLoop(Fd epoll, Fd timer) : epoll_(std::move(epoll)), timer_(std::move(timer)) {}

Result<EventLoop> EventLoop::create() {
  Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) {
    return Error::system("epoll_create1", errno);
  }
  Fd timer(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!timer) {
    return Error::system("timerfd_create", errno);
  }
  if (auto added = epoll_add(epoll.get(), timer.get(), EPOLLIN); !added) {
    return added.error();
  }
  return EventLoop(std::move(epoll), std::move(timer));
}

Result<void> EventLoop::add(int fd, std::uint32_t events, Handler handler) {
  if (auto added = epoll_add(epoll_.get(), fd, events); !added) {
    return added.error();
  }
  handlers_[fd] = std::make_shared<Handler>(std::move(handler));
  return {};
}

Result<void> EventLoop::change(int fd, std::uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.fd = fd;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event) != 0) {
    return Error::system("epoll_ctl(MOD, fd " + std::to_string(fd) + ")", errno);
  }
  return {};
}

void EventLoop::remove(int fd) {
  if (handlers_.erase(fd) != 0) {
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  }
}

Result<void> EventLoop::set_timer(core::Ns at_ns) {
  if (at_ns == timer_at_) {
    return {};
  }
  itimerspec spec{};  // all zero disarms
  if (at_ns != core::kNever) {
    // 0 would disarm; the clock's first nanosecond is as much in the past.
    const core::Ns at = at_ns == 0 ? 1 : at_ns;
    spec.it_value.tv_sec = static_cast<time_t>(at / core::kSecond);
    spec.it_value.tv_nsec = static_cast<long>(at % core::kSecond);
  }
  if (::timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &spec, nullptr) != 0) {
    return Error::system("timerfd_settime", errno);
  }
  timer_at_ = at_ns;
  return {};
}

void EventLoop::on_timer(std::function<void()> handler) {
  timer_handler_ = std::move(handler);
}

void EventLoop::fire_timer() {
  std::uint64_t expirations = 0;
  // EAGAIN: a handler called just before has set the timer anew, so this expiry is void.
  if (::read(timer_.get(), &expirations, sizeof(expirations)) != sizeof(expirations)) {
    return;
  }
  timer_at_ = core::kNever;
  if (const auto handler = timer_handler_) {  // a copy: the handler may replace itself
    handler();
  }
}

Result<void> EventLoop::run_once() {
  std::array<epoll_event, 64> events;
  const int count = ::epoll_wait(epoll_.get(), events.data(), events.size(), -1);
  if (count < 0) {
    if (errno == EINTR) {
      return {};
    }
    return Error::system("epoll_wait", errno);
  }
  // Who was meant by each event is settled before the first handler runs: a handler may remove an
  // fd whose event is still to come, close it, and add a new one under the same number.
  std::vector<std::shared_ptr<Handler>> meant(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < meant.size(); ++i) {
    if (const auto it = handlers_.find(events[i].data.fd); it != handlers_.end()) {
      meant[i] = it->second;
    }
  }
  for (std::size_t i = 0; i < meant.size(); ++i) {
    const int fd = events[i].data.fd;
    if (fd == timer_.get()) {
      fire_timer();
      continue;
    }
    const auto it = handlers_.find(fd);
    if (meant[i] && it != handlers_.end() && it->second == meant[i]) {
      (*meant[i])(events[i].events);
    }
  }
  return {};
}

Result<void> EventLoop::run() {
  while (!stopped_) {
    if (auto ran = run_once(); !ran) {
      return ran;
    }
  }
  return {};
}

}  // namespace procguard::sys
