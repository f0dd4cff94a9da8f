// SPDX-License-Identifier: Apache-2.0
#include "cli/departures.h"

#include <poll.h>

#include <utility>

#include "sys/monotonic_clock.h"
#include "sys/pidfd.h"

namespace procguard::cli {

void Departures::hold(int pidfd) {
  if (pidfds_.size() >= kMax) {
    return;
  }
  if (auto copy = sys::duplicate_fd(pidfd)) {
    pidfds_.push_back(std::move(copy).value());
  }
}

void Departures::hold_process(pid_t pid) {
  if (pidfds_.size() >= kMax) {
    return;
  }
  // Should the number be somebody else's by now, that one is waited for in vain, for a moment.
  if (auto pidfd = sys::open_pidfd(pid)) {
    pidfds_.push_back(std::move(pidfd).value());
  }
}

void Departures::wait(core::Ns patience) {
  const sys::MonotonicClock clock;
  const core::Ns until = core::saturating_add(clock.now(), patience);
  for (const sys::Fd& pidfd : pidfds_) {
    const core::Ns left = core::saturating_sub(until, clock.now());
    pollfd ended{.fd = pidfd.get(), .events = POLLIN, .revents = 0};
    ::poll(&ended, 1, static_cast<int>((left + core::kMillisecond - 1) / core::kMillisecond));
  }
  pidfds_.clear();
}

}  // namespace procguard::cli
