// SPDX-License-Identifier: Apache-2.0
// Asking a fake agent by the real command line.
#pragma once

#include <string>

#include "tests/e2e/guarded_run.h"
#include "tests/support/fake_agent.h"
#include "tests/support/rows.h"

namespace procguard::test {

using Records = std::vector<proto::Bytes>;
using Asked = FakeAgent::Asked;

inline Command command_of(const FakeAgent& agent, const Strings& words) {
  Command command;
  command.argv = {procguard_binary()};
  command.argv.insert(command.argv.end(), words.begin(), words.end());
  command.env = {"PROCGUARD_SOCKET=" + agent.socket(), "PROCGUARD_GUARD", "TZ=UTC"};
  return command;
}

inline Outcome ask(const FakeAgent& agent, const Strings& words) {
  return run(command_of(agent, words));
}

inline Records guard_again(const Asked& asked) {
  return {answer_to<proto::GuardBody>(asked, {{.guard = row_of(12).guard}})};
}

}  // namespace procguard::test
