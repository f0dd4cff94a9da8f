// SPDX-License-Identifier: Apache-2.0
// Connection: one client. Replies wait here until the client reads them, and while any wait nothing
// more is read from it: a client that does not read costs one reply, not memory. One thread.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>

#include "agent/authority.h"
#include "core/clock.h"
#include "proto/codec.h"
#include "sys/seqpacket.h"

namespace procguard::agent {

class Connection {
 public:
  Connection(std::uint64_t id, sys::SeqPacket socket, const sys::Peer& peer, const Asker& asker)
      : id_(id), socket_(std::move(socket)), peer_(peer), asker_(asker) {}

  std::uint64_t id() const { return id_; }
  int fd() const { return socket_.fd(); }
  const sys::Peer& peer() const { return peer_; }
  const Asker& asker() const { return asker_; }
  const sys::SeqPacket& socket() const { return socket_; }
  // The other end hears at once that it is over.
  sys::Fd take_socket() {
    socket_.shut_down();
    return std::move(socket_).release();
  }

  // Sends now, or as soon as the client reads.
  void send(proto::Writer& reply);
  void send_error(std::uint32_t request, const Denial& denial, std::uint32_t index = 0,
                  int code = 0);
  // What waits, as far as it goes now.
  void flush();
  bool waits() const { return !outbox_.empty(); }
  bool broken() const { return broken_; }
  void close() { broken_ = true; }
  // The other end has closed, and all that it had sent was read.
  void end() { broken_ = ended_ = true; }
  bool ended() const { return ended_; }

  // Whoever is not root gets so many records a second; false: not now.
  bool may_ask(core::Ns now);
  // When it may again; kNever: it may.
  core::Ns paused_until() const { return paused_until_; }
  void pause(core::Ns until) { paused_until_ = until; }
  void unpause() { paused_until_ = core::kNever; }

  // Following events: those after `seq`.
  struct Following {
    proto::EventsBody wanted;
    std::uint64_t seq = 0;
    std::uint32_t request = 0;
    std::uint64_t last_seq = UINT64_MAX;  // of what was asked for; that: all to come
    bool begun = false;                   // the client knows that it is heard
  };
  std::optional<Following> following;

 private:
  bool try_send(const proto::Bytes& record);

  std::uint64_t id_;
  sys::SeqPacket socket_;
  sys::Peer peer_;
  Asker asker_;
  std::deque<proto::Bytes> outbox_;
  bool broken_ = false;
  bool ended_ = false;
  core::Ns window_ns_ = 0;
  std::uint32_t asked_ = 0;
  core::Ns paused_until_ = core::kNever;
};

}  // namespace procguard::agent
