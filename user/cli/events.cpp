// SPDX-License-Identifier: Apache-2.0
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>

#include "cli/agent_commands.h"
#include "cli/agent_options.h"
#include "cli/command.h"
#include "cli/event_stream.h"
#include "core/clock.h"

namespace procguard::cli {
namespace {

constexpr const char* kCommand = "events";

std::uint64_t real_now() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * core::kSecond +
         static_cast<std::uint64_t>(now.tv_nsec);
}

// Waits for the agent's next record; false: nobody reads our output any more.
bool wait_for_record(const AgentLink& link) {
  pollfd fds[] = {{.fd = link.fd(), .events = POLLIN, .revents = 0},
                  {.fd = STDOUT_FILENO, .events = 0, .revents = 0}};
  while (::poll(fds, 2, -1) < 0 && errno == EINTR) {
  }
  return fds[1].revents == 0;
}

Result<int> events(const EventsOptions& options, AgentLink& link) {
  EventStream stream(options, ::geteuid() == 0);
  proto::Writer request = link.request(proto::Op::kEvents, options.follow ? proto::kFollow : 0);
  request.add(proto::EventsBody{
      .since_seq = options.since.seq, .since_real_ns = options.since.real_ns, .guard = 0});
  auto record = link.ask(request);
  for (;;) {
    if (!record) {
      return record.error();
    }
    const auto page = AgentLink::bodies<proto::EventBody>(record.value());
    if (!page) {
      return page.error();
    }
    const Written written = write_out(kCommand, stream.text(page.value()));
    if (written != Written::kYes) {
      return written == Written::kFailed ? kAgentNone : kAgentOk;
    }
    if (record->has(proto::kEnd) && !options.follow) {
      return stream.printed() || options.filter.empty() ? kAgentOk : kAgentNone;
    }
    if (options.follow && !wait_for_record(link)) {
      return kAgentOk;
    }
    record = link.next(proto::Op::kEvents);
  }
}

}  // namespace

int events_main(const std::vector<std::string>& args) {
  return with_agent(kCommand, parse_events_options(args, real_now()), events);
}

}  // namespace procguard::cli
