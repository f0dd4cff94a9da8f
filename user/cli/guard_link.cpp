// SPDX-License-Identifier: Apache-2.0
#include "cli/guard_link.h"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace procguard::cli {
namespace {

using proto::Op;

int code_of(proto::Status status) {
  switch (status) {
    case proto::Status::kNotFound:
      return ESRCH;
    case proto::Status::kNotPermitted:
      return EPERM;
    case proto::Status::kUnsupported:
      return EOPNOTSUPP;
    case proto::Status::kBusy:
      return kAgentUnavailable;
    default:
      return EINVAL;
  }
}

proto::RefBody reference(std::uint64_t id) {
  proto::RefBody body;
  body.id = id;
  return body;
}

}  // namespace

Result<GuardLink> GuardLink::connect(const std::string& path, core::Ns patience) {
  auto client = proto::Client::connect(path, patience);
  if (!client) {
    return client.error();
  }
  return GuardLink(std::move(client).value());
}

Error GuardLink::lose(const Error& error) {
  lost_ = true;
  return Error(error.message(), kAgentUnavailable);
}

// The reply, unless the agent said no or cannot be understood.
Result<proto::Message> GuardLink::checked(Result<proto::Message> reply, std::uint32_t request) {
  if (!reply) {
    return lose(reply.error());
  }
  const proto::Header& header = reply->header;
  if (header.version != proto::kVersion || header.abi != PG_ABI) {
    return lose(Error("the agent is of another version"));
  }
  if (header.request != request && header.request != 0) {
    return lose(Error("the agent has answered something else"));
  }
  if (reply->op() == Op::kError) {
    const proto::Refusal no = proto::refusal(reply.value());
    return Error("the agent: " + no.text, code_of(no.status));
  }
  return reply;
}

template <typename... Body>
Result<proto::Message> GuardLink::ask(proto::Op op, std::span<const int> fds, const Body&... body) {
  const std::uint32_t number = client_.request();
  const bool follow = op == Op::kEvents;
  proto::Writer request(op, number, follow ? proto::kFollow : 0);
  (request.add(body), ...);
  return checked(client_.call(request, fds), number);
}

template <typename Body>
Result<Body> GuardLink::one(const Result<proto::Message>& reply) {
  if (!reply) {
    return reply.error();
  }
  const auto body = reply->one<Body>();
  return body ? Result<Body>(*body) : lose(Error("the agent's answer is not understood"));
}

Result<pg_guard> GuardLink::guard_of(const Result<proto::Message>& reply) {
  auto body = one<proto::GuardBody>(reply);
  return body ? Result<pg_guard>(body->guard) : body.error();
}

Result<std::vector<proto::EventBody>> GuardLink::events_of(const Result<proto::Message>& reply) {
  if (!reply) {
    return reply.error();
  }
  auto bodies = reply->as<proto::EventBody>();
  if (reply->op() != Op::kEvents || !bodies) {
    return lose(Error("the agent's events are not understood"));
  }
  return std::move(*bodies);
}

Result<proto::StatusBody> GuardLink::status() {
  return one<proto::StatusBody>(ask(Op::kStatus, {}));
}

Result<proto::ArmedBody> GuardLink::attach(const proto::AttachBody& wanted, int target) {
  return one<proto::ArmedBody>(ask(Op::kAttach, {&target, 1}, wanted));
}

Result<pg_guard> GuardLink::start(std::uint64_t id, core::Ns at_ns) {
  return guard_of(ask(Op::kStart, {}, proto::StartBody{.id = id, .at_ns = at_ns}));
}

Result<pg_guard> GuardLink::progress(std::uint64_t id) {
  return guard_of(ask(Op::kProgress, {}, reference(id)));
}

Result<pg_guard> GuardLink::release(std::uint64_t id) {
  return guard_of(ask(Op::kRelease, {}, reference(id)));
}

Result<Shown> GuardLink::show(std::uint64_t id) {
  Result<proto::Message> reply = ask(Op::kShow, {}, reference(id));
  const auto about = one<proto::ShowBody>(reply);
  if (!about) {
    return about.error();
  }
  Shown shown{.about = about.value(), .threads = {}};
  while (!reply->has(proto::kEnd)) {
    reply = checked(client_.next(), reply->header.request);
    if (!reply) {
      return reply.error();
    }
    const auto threads = reply->as<proto::ThreadBody>();
    if (reply->op() != Op::kThreads || !threads) {
      return lose(Error("the agent's answer is not understood"));
    }
    shown.threads.insert(shown.threads.end(), threads->begin(), threads->end());
  }
  return shown;
}

Result<std::vector<proto::EventBody>> GuardLink::follow(std::uint64_t id, std::uint64_t since) {
  return events_of(
      ask(Op::kEvents, {}, proto::EventsBody{.since_seq = since, .since_real_ns = 0, .guard = id}));
}

Result<std::vector<proto::EventBody>> GuardLink::events() {
  auto record = client_.next();
  const std::uint32_t request = record ? record->header.request : 0;
  return events_of(checked(std::move(record), request));
}

proto::AttachBody attach_body(const core::GuardSpec& spec, const std::string& labels) {
  proto::AttachBody body;
  body.flags = proto::kHasFd | proto::kHeld;
  body.flags |= (spec.flags & PG_GUARD_FAILSAFE) != 0 ? proto::kFailsafe : 0U;
  body.flags |= spec.mode == PG_MODE_MONITOR ? proto::kMonitor : 0U;
  body.scope = spec.scope;
  body.limit[PG_TIMEOUT] = spec.timeout_ns;
  body.limit[PG_CPU] = spec.cpu_ns;
  body.limit[PG_MEMORY] = spec.memory_bytes;
  body.limit[PG_MEMORY_GROWTH] = spec.memory_growth_bytes;
  body.grace_ns = spec.grace_ns;
  body.step_grace_ns = spec.step_grace_ns;
  body.steps = static_cast<std::uint32_t>(std::min<std::size_t>(spec.ladder.size(), PG_STEPS));
  std::copy_n(spec.ladder.begin(), body.steps, body.ladder);
  proto::put_text(body.name, spec.name);
  proto::put_text(body.labels, labels);
  return body;
}

}  // namespace procguard::cli
