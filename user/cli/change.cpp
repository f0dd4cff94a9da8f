// SPDX-License-Identifier: Apache-2.0
// The subcommands that change guards: set, pause, resume, release, progress.
#include <algorithm>
#include <string_view>

#include "cli/agent_commands.h"
#include "cli/agent_options.h"
#include "cli/command.h"
#include "cli/guard_words.h"
#include "cli/notify_port.h"

namespace procguard::cli {
namespace {

// Asks, and expects the guard as it is now.
Result<void> ask_for_guard(AgentLink& link, proto::Writer& request) {
  const auto reply = link.ask(request);
  if (!reply) {
    return reply.error();
  }
  const auto guard = AgentLink::body<proto::GuardBody>(reply.value());
  return guard ? Result<void>() : guard.error();
}

Result<int> set(const SetOptions& options, AgentLink& link) {
  const core::GuardSpec& limits = options.limits;
  proto::Writer request = link.request(proto::Op::kSet);
  request.add(proto::SetBody{.guard = options.guard.ref,
                             .limit = {limits.timeout_ns, limits.cpu_ns, limits.memory_bytes,
                                       limits.memory_growth_bytes}});
  const auto done = ask_for_guard(link, request);
  return done ? Result<int>(kAgentOk) : about_guard(done.error(), options.guard.ref);
}

// One after the other, each for itself: a guard that is no more is no reason to leave the next one
// as it is. The status is that of the first that failed.
int for_each_guard(const char* command, proto::Op op, const std::vector<std::string>& args) {
  return with_agent(command, parse_guards_options(command, args),
                    [&](const GuardsOptions& options, AgentLink& link) -> Result<int> {
                      int status = kAgentOk;
                      for (const NamedGuard& guard : options.guards) {
                        proto::Writer request = link.request(op);
                        request.add(guard.ref);
                        const auto done = ask_for_guard(link, request);
                        if (done) {
                          continue;
                        }
                        const int failed =
                            fail(command, about_guard(done.error(), guard.ref).in(guard.word));
                        status = status == kAgentOk ? failed : status;
                        if (failed == kAgentNotRunning) {
                          break;  // so it would be with the others
                        }
                      }
                      return status;
                    });
}

// The guard is that of the run that has started us, which hears its members by sd_notify(3).
Result<void> tell_run() {
  const char* address = std::getenv("NOTIFY_SOCKET");
  auto told = address != nullptr ? notify_progress(address)
                                 : Error("there is no NOTIFY_SOCKET", kAgentNone);
  return told ? told
              : Error("the guard is procguard run's own: " + told.error().message(), kAgentNone);
}

}  // namespace

int set_main(const std::vector<std::string>& args) {
  return with_agent("set", parse_set_options(args), set);
}

int pause_main(const std::vector<std::string>& args) {
  return for_each_guard("pause", proto::Op::kPause, args);
}

int resume_main(const std::vector<std::string>& args) {
  return for_each_guard("resume", proto::Op::kResume, args);
}

int release_main(const std::vector<std::string>& args) {
  return for_each_guard("release", proto::Op::kRelease, args);
}

int progress_main(const std::vector<std::string>& args) {
  auto options = parse_guards_options("progress", args);
  if (options && options->help.empty() && options->guards.empty()) {
    const char* named = std::getenv("PROCGUARD_GUARD");
    if (named == nullptr || *named == '\0') {
      return fail_usage("progress",
                        Error("no guard (expected g12, 12 or a name, or one in PROCGUARD_GUARD)"));
    }
    if (std::string_view(named) == kOwnGuard) {
      const auto told = tell_run();
      return told ? kAgentOk : fail("progress", told.error());
    }
    std::vector<std::string> with_guard = args;
    if (std::find(args.begin(), args.end(), "--") == args.end()) {
      with_guard.emplace_back("--");  // a name may begin with a dash
    }
    with_guard.emplace_back(named);
    return for_each_guard("progress", proto::Op::kProgress, with_guard);
  }
  return for_each_guard("progress", proto::Op::kProgress, args);
}

}  // namespace procguard::cli
