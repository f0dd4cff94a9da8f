// SPDX-License-Identifier: Apache-2.0
// Client: one connection to an agent, requests and replies one after the other. Blocking; one
// thread.
#pragma once

#include <cerrno>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/clock.h"
#include "core/result.h"
#include "proto/codec.h"
#include "sys/seqpacket.h"

namespace procguard::proto {

// A refusal of the agent as an Error: its code is the errno that goes with the status.
struct Refusal {
  Status status = Status::kOk;
  std::uint32_t index = 0;
  std::string text;
};

class Client {
 public:
  // Who serves the socket is neither root nor we: what is asked there is nobody else's business.
  static constexpr int kServedByAnother = EKEYREJECTED;

  // Neither this nor a call waits longer than `patience` for the other end; 0: for ever. Error
  // codes: ENOENT, ECONNREFUSED: no agent is running there; EACCES: not permitted; EAGAIN: it does
  // not answer; kServedByAnother.
  static Result<Client> connect(const std::string& path, core::Ns patience = 0);
  // Error code kServedByAnother. connect() asks this; for who has the connection by other means.
  static Result<void> check_server(const sys::SeqPacket& socket, const std::string& path);
  Result<void> wait_at_most(core::Ns patience) const { return socket_.wait_at_most(patience); }

  // Sends and waits for the first reply. A reply of op kError is a Reply too: see refusal().
  // Errors: the connection is lost (ECONNRESET), the other end does not answer (EAGAIN) or
  // does not speak this protocol (EPROTO).
  Result<Message> call(Writer& request, std::span<const int> fds = {});
  // Waits for one more record: of a reply of several, or unasked. The message is good until the
  // next call.
  Result<Message> next();
  // For an event loop: readable when next() has something.
  int fd() const { return socket_.fd(); }
  // A number for the next request.
  std::uint32_t request() { return ++request_; }

 private:
  explicit Client(sys::SeqPacket socket) : socket_(std::move(socket)), buffer_(kMaxRecord) {}

  sys::SeqPacket socket_;
  std::vector<std::byte> buffer_;
  std::uint32_t request_ = 0;
};

// What the agent said against it; status kOk: nothing.
Refusal refusal(const Message& reply);

}  // namespace procguard::proto
