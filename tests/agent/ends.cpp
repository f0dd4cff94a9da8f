// SPDX-License-Identifier: Apache-2.0
#include "tests/agent/ends.h"

#include <gtest/gtest.h>
#include <sys/epoll.h>

#include <algorithm>
#include <array>

#include "sys/monotonic_clock.h"
#include "sys/pidfd.h"
#include "sys/sched_fifo.h"
#include "tests/support/processes.h"

namespace procguard::test {
namespace {

constexpr int kTurnMs = 2;

}  // namespace

core::Ns now_ns() {
  return sys::MonotonicClock().now();
}

void sleep_ns(core::Ns length) {
  std::this_thread::sleep_for(std::chrono::nanoseconds(length));
}

Ends::Ends() : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {}

Ends::~Ends() {
  stop_ = true;
  if (thread_.joinable()) {
    thread_.join();
  }
}

std::size_t Ends::add(pid_t pid) {
  const std::size_t place = all_.size();
  One& one = all_.emplace_back();
  auto opened = sys::open_pidfd(pid);
  EXPECT_TRUE(opened.ok()) << pid;
  if (opened) {
    one.pidfd = std::move(opened).value();
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = place;
    EXPECT_EQ(::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, one.pidfd.get(), &event), 0);
    ++left_;
  }
  return place;
}

void Ends::watch() {
  thread_ = std::thread([this] { run(); });
}

bool Ends::wait_for_all(std::chrono::nanoseconds deadline) {
  return wait_until([this] { return left_ == 0; }, deadline);
}

void Ends::run() {
  sys::request_sched_fifo();  // as the agent: what holds it up holds this up
  std::array<epoll_event, 64> events;
  core::Ns before = now_ns();
  while (!stop_) {
    const int count = ::epoll_wait(epoll_.get(), events.data(), events.size(), kTurnMs);
    const core::Ns now = now_ns();
    const core::Ns turn = core::saturating_sub(now, before + kTurnMs * core::kMillisecond);
    longest_stall_ = std::max<core::Ns>(longest_stall_, turn);
    before = now;
    for (int i = 0; i < count; ++i) {
      One& one = all_[events[static_cast<std::size_t>(i)].data.u64];
      ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, one.pidfd.get(), nullptr);
      one.at = now;
      --left_;
    }
  }
}

}  // namespace procguard::test
