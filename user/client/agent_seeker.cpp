// SPDX-License-Identifier: Apache-2.0
#include "client/agent_seeker.h"

#include <utility>

#include "client/shown.h"
#include "proto/client.h"
#include "sys/seqpacket.h"

namespace procguard::client {

AgentSeeker::Answer AgentSeeker::ask(const std::string& path) {
  if (asked_ == nullptr) {
    auto socket = sys::SeqPacket::connect(path, false);
    if (!socket) {
      return none(socket.error());
    }
    if (auto trusted = proto::Client::check_server(socket.value(), path); !trusted) {
      return none(trusted.error());
    }
    const auto page = SessionPage::instance().descriptor();
    if (!page) {
      return none(page.error());
    }
    auto asked = AgentSource::ask(clock_, std::move(socket).value(), page.value());
    if (!asked) {
      return none(asked.error());
    }
    asked_ = std::move(asked).value();
  }
  asked_->drain();
  if (asked_->lost()) {
    return none(*asked_->lost());
  }
  return asked_->accepted() ? Answer::kAccepted : Answer::kPending;
}

AgentSeeker::Answer AgentSeeker::none(Error why) {
  why_ = std::move(why);
  give_up();
  return Answer::kNone;
}

}  // namespace procguard::client
