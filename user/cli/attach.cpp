// SPDX-License-Identifier: Apache-2.0
#include <sys/sysinfo.h>

#include <algorithm>

#include "cli/agent_commands.h"
#include "cli/attach_options.h"
#include "cli/command.h"
#include "cli/guard_view.h"
#include "cli/messages.h"

namespace procguard::cli {
namespace {

constexpr const char* kCommand = "attach";

void warn_above_ram(const core::GuardSpec& guard) {
  struct sysinfo machine {};
  const std::uint64_t limit = std::max(guard.memory_bytes, guard.memory_growth_bytes);
  if (::sysinfo(&machine) != 0) {
    return;
  }
  const std::uint64_t ram = std::uint64_t{machine.totalram} * machine.mem_unit;
  if (limit > ram) {
    Messages().note(above_ram_text(kCommand, limit, ram));
  }
}

Result<int> attach(const AttachOptions& options, AgentLink& link) {
  const auto target = open_target(options.target);
  if (!target) {
    return target.error();
  }
  proto::Writer request = link.request(proto::Op::kAttach);
  request.add(attach_body(options, target.value()));
  const int fd = target->fd.get();
  const auto reply = link.ask(request, {&fd, 1});
  if (!reply) {
    return reply.error();
  }
  const auto armed = AgentLink::body<proto::ArmedBody>(reply.value());
  if (!armed) {
    return armed.error();
  }
  warn_above_ram(options.guard);
  return print_out(kCommand, guard_number(armed->id) + "\n");
}

}  // namespace

int attach_main(const std::vector<std::string>& args) {
  return with_agent(kCommand, parse_attach_options(args), attach);
}

}  // namespace procguard::cli
