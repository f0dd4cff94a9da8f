// SPDX-License-Identifier: Apache-2.0
// Waiting for one descriptor.
#pragma once

#include <poll.h>

#include "core/clock.h"

namespace procguard::cli {

// Is there something to read, or will there be within `patience`?
inline bool readable(int fd, core::Ns patience) {
  pollfd ready{.fd = fd, .events = POLLIN, .revents = 0};
  const core::Ns ms = (patience + core::kMillisecond - 1) / core::kMillisecond;
  return ::poll(&ready, 1, static_cast<int>(ms)) == 1;
}

}  // namespace procguard::cli
