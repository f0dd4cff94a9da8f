// SPDX-License-Identifier: Apache-2.0
// What the tests of `procguard run` over an agent share: an agent of their own.
#pragma once

#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "tests/e2e/guarded_run.h"
#include "tests/support/agent_process.h"

namespace procguard::test {

class RunAgent : public testing::Test {
 protected:
  void TearDown() override {
    if (agent_) {
      agent_->stop();
      agent_.reset();
    }
    tear_down_guards();
    std::filesystem::remove_all(place_.directory);
  }

  void start_agent(Strings more = {}) {
    agent_ = std::make_unique<AgentProcess>(place_, std::move(more));
    ASSERT_TRUE(agent_->ready()) << agent_->process().wait().describe();
  }
  void tear_down_guards() {
    const Outcome torn =
        run({.argv = {procguard_binary(), "agent", "--teardown", "--pin-dir", place_.pins}});
    EXPECT_EQ(torn.status(), 0) << torn.describe();
  }
  // What run cannot see while it happens.
  template <typename What>
  static void while_stopped(GuardedRun& run, const What& what) {
    run.process().send(SIGSTOP);
    ASSERT_TRUE(wait_until([&] { return process_state(run.process().pid()) == 'T'; }));
    what();
    run.process().send(SIGCONT);
  }
  Command base() const { return {.env = {"PROCGUARD_SOCKET=" + place_.socket}}; }
  Guarded guarded(const Strings& options, const Strings& command) const {
    return run_guarded(options, command, base());
  }
  std::string shown(const std::string& guard) const {
    return run({.argv = {procguard_binary(), "show", "--socket", place_.socket, guard}}).out;
  }
  // Its clocks run: the agent knows that the command was executed.
  bool started(const std::string& guard) const {
    return wait_until([&] { return shown(guard).find(guard + ": armed") != std::string::npos; });
  }

  AgentPlace place_;
  std::unique_ptr<AgentProcess> agent_;
};

}  // namespace procguard::test
