// SPDX-License-Identifier: Apache-2.0
// FakeAgent: the other end of the control socket, in threads, with answers that the test gives, one
// at a time. It keeps what it was asked.
#pragma once

#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "proto/codec.h"
#include "sys/fd.h"
#include "sys/seqpacket.h"
#include "tests/support/temp_tree.h"

namespace procguard::test {

class FakeAgent {
 public:
  struct Asked {
    proto::Header header;
    proto::Bytes bodies;
    std::vector<sys::Fd> fds;

    proto::Op op() const { return static_cast<proto::Op>(header.op); }
    template <typename Body>
    std::optional<Body> one() const {
      return proto::Message{.header = header, .bodies = bodies}.one<Body>();
    }
  };
  // The records that answer a request, in order; after them, without any, the connection is closed.
  using Answer = std::function<std::vector<proto::Bytes>(const Asked&)>;

  explicit FakeAgent(Answer answer);
  FakeAgent(const FakeAgent&) = delete;
  FakeAgent& operator=(const FakeAgent&) = delete;
  ~FakeAgent();

  std::string socket() const { return directory_.at("agent.sock"); }
  // What it was asked so far; its thread writes on, so take it when nobody asks any more.
  std::vector<Asked> take_asked();

 private:
  void serve();
  void talk(const sys::SeqPacket& connection);
  bool wait_readable(int fd) const;  // false: it is to end

  TempTree directory_;
  Answer answer_;
  sys::Fd stop_;
  sys::SeqPacket listener_;
  std::mutex mutex_;
  std::vector<Asked> asked_;
  std::thread thread_;
};

// A record in answer to `asked`.
template <typename Body>
proto::Bytes answer_to(const FakeAgent::Asked& asked, const std::vector<Body>& bodies,
                       std::uint16_t flags = 0, proto::Op op = proto::Op::kNone) {
  proto::Writer writer(op == proto::Op::kNone ? asked.op() : op, asked.header.request, flags);
  for (const Body& body : bodies) {
    writer.add(body);
  }
  return writer.bytes();
}

proto::Bytes refusal_of(const FakeAgent::Asked& asked, proto::Status status,
                        const std::string& text);

}  // namespace procguard::test
