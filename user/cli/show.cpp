// SPDX-License-Identifier: Apache-2.0
#include "cli/agent_commands.h"
#include "cli/agent_options.h"
#include "cli/command.h"
#include "cli/guard_json.h"
#include "cli/show_text.h"
#include "sys/monotonic_clock.h"

namespace procguard::cli {
namespace {

// More is no answer: pids end far below.
constexpr std::size_t kMostThreads = 4U << 20;

Result<int> show(const ShowOptions& options, AgentLink& link) {
  proto::Writer request = link.request(proto::Op::kShow);
  request.add(options.guard.ref);
  auto record = link.ask(request);
  if (!record) {
    return about_guard(record.error(), options.guard.ref);
  }
  const auto guard = AgentLink::body<proto::ShowBody>(record.value());
  if (!guard) {
    return guard.error();
  }
  std::vector<proto::ThreadBody> threads;
  while (!record->has(proto::kEnd)) {
    record = link.next(proto::Op::kThreads);
    if (!record) {
      return record.error();
    }
    const auto more = AgentLink::bodies<proto::ThreadBody>(record.value());
    if (!more || threads.size() > kMostThreads) {
      return AgentLink::not_understood(record.value());
    }
    threads.insert(threads.end(), more->begin(), more->end());
  }
  return print_out(
      "show", options.json ? show_json(guard.value(), threads) : show_text(guard.value(), threads));
}

Result<int> status(const StatusOptions& options, AgentLink& link) {
  proto::Writer request = link.request(proto::Op::kStatus);
  const auto reply = link.ask(request);
  if (!reply) {
    return reply.error();
  }
  const auto body = AgentLink::body<proto::StatusBody>(reply.value());
  if (!body) {
    return body.error();
  }
  return print_out("status", options.json ? status_json(body.value())
                                          : status_text(body.value(), sys::MonotonicClock().now()));
}

}  // namespace

int show_main(const std::vector<std::string>& args) {
  return with_agent("show", parse_show_options(args), show);
}

int status_main(const std::vector<std::string>& args) {
  return with_agent("status", parse_status_options(args), status);
}

}  // namespace procguard::cli
