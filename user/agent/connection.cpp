// SPDX-License-Identifier: Apache-2.0
#include "agent/connection.h"

#include <cerrno>

namespace procguard::agent {
namespace {

// Of a client that is not root: the loop runs at real-time priority, and belongs to all.
constexpr std::uint32_t kRecordsAWindow = 2000;
constexpr core::Ns kWindow = core::kSecond;
constexpr std::size_t kMostWaiting = 8;  // replies; more means a bug of ours, not of the client

}  // namespace

void Connection::send(proto::Writer& reply) {
  if (outbox_.empty() && try_send(reply.bytes())) {
    return;
  }
  if (outbox_.size() >= kMostWaiting) {
    broken_ = true;
    return;
  }
  outbox_.push_back(reply.bytes());
}

void Connection::send_error(std::uint32_t request, const Denial& denial, std::uint32_t index,
                            int code) {
  proto::ErrorBody body;
  body.status = static_cast<std::uint32_t>(denial.status);
  body.index = index;
  body.code = code;
  proto::put_text(body.text, denial.text);
  proto::Writer reply(proto::Op::kError, request, proto::kEnd);
  reply.add(body);
  send(reply);
}

bool Connection::try_send(const proto::Bytes& record) {
  const auto sent = socket_.send(record);
  if (sent) {
    return true;
  }
  if (sent.error().code() != EAGAIN && sent.error().code() != EWOULDBLOCK) {
    broken_ = true;
    return true;  // nobody will read it
  }
  return false;
}

void Connection::flush() {
  while (!outbox_.empty() && !broken_ && try_send(outbox_.front())) {
    outbox_.pop_front();
  }
}

bool Connection::may_ask(core::Ns now) {
  if (asker_.root()) {
    return true;
  }
  if (now >= window_ns_ + kWindow) {
    window_ns_ = now;
    asked_ = 0;
  }
  if (++asked_ <= kRecordsAWindow) {
    return true;
  }
  paused_until_ = window_ns_ + kWindow;
  return false;
}

}  // namespace procguard::agent
