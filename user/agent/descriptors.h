// SPDX-License-Identifier: Apache-2.0
// Descriptors that clients send, and the sockets of clients themselves. Whoever serves what is
// behind one decides how long a call takes that reaches it, close(2) as well: the loop touches what
// is known to answer by itself and nothing else. The rest is closed beside it. One thread.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "sys/closer.h"
#include "sys/fd.h"

namespace procguard::agent {

class Descriptors {
 public:
  Descriptors();

  // Pidfds, directories of the v2 hierarchy and small memfds stay; each of the others leaves an
  // empty place and is closed beside the loop.
  void screen(std::vector<sys::Fd>& fds, uid_t giver);
  // Never waits.
  void close(sys::Fd fd, uid_t giver) { closer_.close(std::move(fd), giver); }
  // So many of this one's are still not closed that it is not to send more. Root is not kept out by
  // what others have sent, behind which its own may wait.
  bool too_many(uid_t giver) { return giver != 0 && closer_.waiting(giver) > kMost; }

 private:
  static constexpr std::size_t kMost = 128;

  bool harmless(int fd);
  bool in_hierarchy(const std::string& text);

  sys::Closer closer_;
  std::string v2_point_;  // empty: v2 is not mounted
  std::optional<dev_t> v2_device_;
  std::optional<dev_t> memfd_device_;
};

}  // namespace procguard::agent
