// SPDX-License-Identifier: Apache-2.0
// GuardLink: one connection to an agent, as `procguard run` needs it. No call waits for long: an
// agent that does not answer within a moment counts as one that has gone. One thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bpf/contract.h"
#include "core/clock.h"
#include "core/guard.h"
#include "core/result.h"
#include "proto/client.h"

namespace procguard::cli {

// Code of the errors after which the agent is of no use for now: it is too busy, it has gone, or
// it does not speak our protocol.
inline constexpr int kAgentUnavailable = EAGAIN;

struct Shown {
  proto::ShowBody about;
  std::vector<proto::ThreadBody> threads;
};

class GuardLink {
 public:
  // How long an agent may take to answer.
  static constexpr core::Ns kPatience = 5 * core::kSecond;

  // Error codes: ENOENT, ECONNREFUSED: no agent is running there; EACCES: not permitted;
  // kAgentUnavailable: it does not answer.
  static Result<GuardLink> connect(const std::string& path, core::Ns patience = kPatience);
  // From now on an answer may take so long.
  Result<void> wait_at_most(core::Ns patience) const { return client_.wait_at_most(patience); }

  int fd() const { return client_.fd(); }
  // The connection has failed: it is of no more use.
  bool lost() const { return lost_; }

  // Error codes of all: kAgentUnavailable; else the agent said no: ESRCH (it is not there), EINVAL,
  // EPERM, EOPNOTSUPP.
  Result<proto::StatusBody> status();
  Result<proto::ArmedBody> attach(const proto::AttachBody& wanted, int target);
  Result<pg_guard> start(std::uint64_t id, core::Ns at_ns);
  Result<pg_guard> progress(std::uint64_t id);
  Result<pg_guard> release(std::uint64_t id);
  Result<Shown> show(std::uint64_t id);

  // The first of the events of this guard above `since`; the others, and those to come, are for
  // events().
  Result<std::vector<proto::EventBody>> follow(std::uint64_t id, std::uint64_t since);
  // The next record of events. Waits for it, if not for long.
  Result<std::vector<proto::EventBody>> events();

 private:
  explicit GuardLink(proto::Client client) : client_(std::move(client)) {}
  Error lose(const Error& error);
  Result<proto::Message> checked(Result<proto::Message> reply, std::uint32_t request);
  // One request with at most one body.
  template <typename... Body>
  Result<proto::Message> ask(proto::Op op, std::span<const int> fds, const Body&... body);
  template <typename Body>
  Result<Body> one(const Result<proto::Message>& reply);
  Result<pg_guard> guard_of(const Result<proto::Message>& reply);
  Result<std::vector<proto::EventBody>> events_of(const Result<proto::Message>& reply);

  proto::Client client_;
  bool lost_ = false;
};

// The guard that `spec` describes, as a request; `labels` as AttachBody has them.
proto::AttachBody attach_body(const core::GuardSpec& spec, const std::string& labels);

}  // namespace procguard::cli
