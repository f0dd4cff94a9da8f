// SPDX-License-Identifier: Apache-2.0
// What doctor says about the host's agent.
#include <cerrno>
#include <cstring>

#include "cli/doctor.h"
#include "proto/client.h"
#include "sys/procfs_parse.h"

namespace procguard::cli {
namespace {

// Without one everything that this process may guard itself works: never "missing".
Check check_agent(const Facts& facts) {
  const std::string where = sys::printable(facts.agent_socket);
  const std::string alone = "procguard run and the libraries guard by themselves";
  switch (facts.agent_error) {
    case 0:
      return {"agent", CheckStatus::kOk, "answers at " + where,
              "guards survive the death of whoever made them", ""};
    case ENOENT:
    case ECONNREFUSED:
      return {"agent", CheckStatus::kOk, "none is running at " + where, alone, ""};
    case EACCES:
    case EPERM:
      return {"agent", CheckStatus::kWarn, "is not for this user: " + where,
              alone + ", from /proc where they are not privileged",
              facts.agent_group.empty()
                  ? "it is root's alone: ask for a socket_group in its configuration"
                  : "join its group: usermod -a -G " + sys::printable(facts.agent_group) +
                        " USER, then log in again"};
    case proto::Client::kServedByAnother:
      return {"agent", CheckStatus::kWarn, "is neither root's nor ours: " + where,
              "it is not asked; " + alone, "see whose socket PROCGUARD_SOCKET names"};
    case EAGAIN:
      return {"agent", CheckStatus::kWarn, "does not answer at " + where, alone,
              "see whether it is stopped; else restart it"};
    default:
      return {"agent", CheckStatus::kWarn,
              "cannot be reached at " + where + ": " + std::strerror(facts.agent_error), alone,
              "see whether it runs: procguard status"};
  }
}

// With no agent running the kernel takes the last step of guards that ask for it.
Check check_failsafe(const Facts& facts) {
  if (!facts.features.programs_load) {
    return {"failsafe", CheckStatus::kWarn, "not known: the programs do not load",
            "no agent can run here", "see above"};
  }
  if (facts.features.signal_task) {
    return {"failsafe", CheckStatus::kOk, "the kernel can signal a sleeping task (6.13 and newer)",
            "with --failsafe kernel the last step comes also while no agent runs", ""};
  }
  return {
      "failsafe", CheckStatus::kWarn, "the kernel cannot signal a sleeping task (before 6.13)",
      "with --failsafe kernel a target that sleeps for good gets its last step when it runs "
      "again, or from the next agent",
      "have the agent restarted at once (systemd: Restart=always), or use kernel 6.13 or newer"};
}

}  // namespace

std::vector<Check> diagnose_agent(const Facts& facts) {
  return {check_agent(facts), check_failsafe(facts)};
}

}  // namespace procguard::cli
