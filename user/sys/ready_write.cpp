// SPDX-License-Identifier: Apache-2.0
#include "sys/ready_write.h"

#include <poll.h>
#include <unistd.h>

#include <climits>

namespace procguard::sys {

// A pipe that is ready has room for PIPE_BUF bytes, a terminal that was stopped for none.
bool write_if_ready(int fd, std::string_view line) {
  pollfd ready{.fd = fd, .events = POLLOUT, .revents = 0};
  if (::poll(&ready, 1, 0) != 1 || (ready.revents & POLLOUT) == 0) {
    return false;
  }
  line = line.substr(0, PIPE_BUF);
  return ::write(fd, line.data(), line.size()) == static_cast<ssize_t>(line.size());
}

}  // namespace procguard::sys
