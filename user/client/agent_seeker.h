// SPDX-License-Identifier: Apache-2.0
// AgentSeeker: asks the agent for a session without waiting for its answer. The monitor's.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "client/agent_source.h"
#include "core/clock.h"
#include "core/result.h"

namespace procguard::client {

class AgentSeeker {
 public:
  explicit AgentSeeker(const core::Clock& clock) : clock_(clock) {}

  enum class Answer { kNone, kPending, kAccepted };
  // Asks who listens there, if nothing is awaited. kNone: there is none, or it does not accept us;
  // see why().
  Answer ask(const std::string& socket);
  // After kAccepted.
  std::unique_ptr<AgentSource> take() { return std::move(asked_); }
  const Error& why() const { return why_; }

  // While an answer is awaited: when ask() has to be called again at the latest, and what becomes
  // readable before. Else kNever, -1.
  core::Ns next_check(core::Ns now) const {
    return asked_ == nullptr ? core::kNever : asked_->next_check(now);
  }
  int event_fd() const { return asked_ == nullptr ? -1 : asked_->event_fd(); }
  void give_up() { over_ = std::move(asked_); }
  // Closes what is over; its descriptor may be followed until then.
  void free() { over_.reset(); }

 private:
  Answer none(Error why);

  const core::Clock& clock_;
  std::unique_ptr<AgentSource> asked_;
  std::unique_ptr<AgentSource> over_;
  Error why_{"nobody was asked"};
};

}  // namespace procguard::client
