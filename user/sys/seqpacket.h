// SPDX-License-Identifier: Apache-2.0
// SOCK_SEQPACKET unix sockets: whole records with descriptors, and who is at the other end.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/clock.h"
#include "core/result.h"
#include "sys/fd.h"

namespace procguard::sys {

// As the kernel knew the other end when it connected. `pid` is a number in our pid namespace; 0 if
// it has none there.
struct Peer {
  pid_t pid = 0;
  uid_t uid = static_cast<uid_t>(-1);
  gid_t gid = static_cast<gid_t>(-1);
};

class SeqPacket {
 public:
  explicit SeqPacket(Fd fd) : fd_(std::move(fd)) {}

  // A listening socket, non-blocking, at `path`, which must not be one that somebody listens at
  // (EADDRINUSE); a dead one is replaced. Mode 0600 until publish().
  static Result<SeqPacket> listen(const std::string& path);
  // Error codes: ENOENT, ECONNREFUSED: nobody listens there; EACCES. `waits` false: nothing done
  // with this socket waits for the other end; EAGAIN where too many wait to be accepted.
  static Result<SeqPacket> connect(const std::string& path, bool waits = true);
  // The same for a client that waits, but never longer than this at a time: neither for its
  // connection to be queued nor later for a record. EAGAIN: it was too long. 0: for ever.
  static Result<SeqPacket> connect_within(const std::string& path, core::Ns patience);
  // From now on.
  Result<void> wait_at_most(core::Ns patience) const;

  int fd() const { return fd_.get(); }
  Fd release() && { return std::move(fd_); }
  Result<Peer> peer() const;
  // A pidfd of the process that connected. ENOPROTOOPT: the kernel has none (before 6.5).
  Result<Fd> peer_pidfd() const;

  // Of a socket that listen() made. The next connection, non-blocking; nothing if there is none
  // (any more). Error codes: EMFILE,
  // ...
  Result<std::optional<SeqPacket>> accept() const;

  // One record. Error codes: EAGAIN: the other end does not read; EPIPE, ECONNRESET: it is gone.
  Result<void> send(std::span<const std::byte> record, std::span<const int> fds = {}) const;

  struct Received {
    std::size_t bytes = 0;
    bool closed = false;     // by the other end, and nothing is left to be read
    bool truncated = false;  // record or descriptors were more than there was room for
    std::vector<Fd> fds;
  };
  // One record into `buffer`. Descriptors beyond `max_fds` are received too: the kernel closes
  // those that are not at once, which may take long. Error codes: EAGAIN; ECONNRESET.
  Result<Received> receive(std::span<std::byte> buffer, std::size_t max_fds) const;

  void shut_down() const;

 private:
  Fd fd_;
};

}  // namespace procguard::sys
