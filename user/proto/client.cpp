// SPDX-License-Identifier: Apache-2.0
#include "proto/client.h"

#include <unistd.h>

#include <cerrno>

#include "sys/namespaces.h"

namespace procguard::proto {
namespace {

Error no_answer() {
  return Error("the agent does not answer", EAGAIN);
}

// In a user namespace the host's root may have no number.
bool trusted(uid_t uid) {
  return uid == 0 || uid == ::geteuid() || uid == ::getuid() ||
         (uid == sys::kUnknownUser && !sys::in_host_user_namespace());
}

}  // namespace

Result<void> Client::check_server(const sys::SeqPacket& socket, const std::string& path) {
  const auto peer = socket.peer();
  if (!peer) {
    return peer.error();
  }
  if (!trusted(peer->uid)) {
    return Error("socket " + path + " is served by uid " + std::to_string(peer->uid) +
                     " (expected root or uid " + std::to_string(::geteuid()) + ")",
                 kServedByAnother);
  }
  return {};
}

Result<Client> Client::connect(const std::string& path, core::Ns patience) {
  auto socket = sys::SeqPacket::connect_within(path, patience);
  if (!socket) {
    return socket.error().code() == EAGAIN ? no_answer() : socket.error();
  }
  if (auto trusted = check_server(socket.value(), path); !trusted) {
    return trusted.error();
  }
  return Client(std::move(socket).value());
}

Result<Message> Client::call(Writer& request, std::span<const int> fds) {
  if (auto sent = socket_.send(request.bytes(), fds); !sent) {
    return sent.error().code() == EAGAIN ? no_answer() : sent.error().in("asking the agent");
  }
  return next();
}

Result<Message> Client::next() {
  auto received = socket_.receive(buffer_, 0);
  if (!received) {
    return received.error().code() == EAGAIN ? no_answer()
                                             : received.error().in("the agent's answer");
  }
  if (received->bytes == 0) {
    return Error("the agent has closed the connection", ECONNRESET);
  }
  const auto message = decode(std::span(buffer_).first(received->bytes));
  if (!message || received->truncated) {
    return Error("the agent's answer is not understood", EPROTO);
  }
  return *message;
}

Refusal refusal(const Message& reply) {
  if (reply.op() != Op::kError) {
    return {};
  }
  const auto body = reply.one<ErrorBody>();
  if (!body) {
    return {.status = Status::kInvalid, .index = 0, .text = "an error that is not understood"};
  }
  return {.status = static_cast<Status>(body->status),
          .index = body->index,
          .text = get_text(body->text)};
}

}  // namespace procguard::proto
