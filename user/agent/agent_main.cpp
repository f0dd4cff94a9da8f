// SPDX-License-Identifier: Apache-2.0
#include "agent/agent_main.h"

#include <cerrno>
#include <cstdio>

#include "agent/agent.h"
#include "agent/config.h"
#include "agent/log.h"

namespace procguard::agent {
namespace {

enum ExitCode { kFailed = 1, kUsage = 2, kNotPermitted = 4, kUnsupported = 5 };

int say(const Error& error) {
  std::fprintf(stderr, "procguard: agent: %s\n", error.message().c_str());
  switch (error.code()) {
    case EBUSY:
    case EADDRINUSE:
      return kUsage;
    case EPERM:
    case EACCES:
      return kNotPermitted;
    case EPROTO:
    case ENOSYS:
    case EOPNOTSUPP:
      return kUnsupported;
    default:
      return kFailed;
  }
}

}  // namespace

int agent_main(const std::vector<std::string>& args) {
  auto request = parse_agent_options(args);
  if (!request) {
    std::fprintf(stderr, "procguard: agent: %s\nprocguard: agent: try 'procguard agent --help'\n",
                 request.error().message().c_str());
    return kUsage;
  }
  if (!request->help.empty()) {
    return std::fputs(request->help.c_str(), stdout) < 0 || std::fflush(stdout) != 0 ? kFailed : 0;
  }
  if (request->teardown) {
    auto torn = Agent::tear_down(request->config);
    return torn ? 0 : say(torn.error());
  }
  auto log = Log::open({.format = request->config.log});
  if (!log) {
    return say(log.error());
  }
  Agent agent(request->config, *log.value());
  if (auto begun = agent.begin(); !begun) {
    return say(begun.error());
  }
  auto ran = agent.run();
  return ran ? 0 : say(ran.error());
}

}  // namespace procguard::agent
