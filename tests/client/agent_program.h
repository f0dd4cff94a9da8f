// SPDX-License-Identifier: Apache-2.0
// Tests of guards in a program that has a session with an agent. Each in a child of its own: a
// process has one session.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "tests/client/guarded.h"
#include "tests/client/session_agent.h"
#include "tests/support/temp_tree.h"

namespace procguard::test {

// A limit on growth, far above what a forked child grows by of itself (where it is instrumented,
// the agent's threads alone have megabytes); and what is more.
inline constexpr Bytes kLimit = 64_MiB;
inline constexpr Bytes kMore = 160_MiB;

inline std::string source() {
  return procguard_source();
}

inline MemGuard growth(Bytes limit, std::chrono::nanoseconds grace = 0ms) {
  return mem_guard({.max_memory = limit,
                    .absolute = false,
                    .grace_period = grace,
                    .secondary_grace_period = 1h,
                    .interrupt_type = InterruptType::exception,
                    .check_interval = 10ms});
}

inline TimeGuard exceptions_after(std::chrono::nanoseconds timeout) {
  return time_guard(
      {.timeout = timeout, .grace_period = 1h, .interrupt_type = InterruptType::exception});
}

class AgentProgram : public ::testing::Test {
 protected:
  // Runs `body` where PROCGUARD_SOCKET is socket().
  void in_program(const std::function<void()>& body, const std::string& wanted = "auto") {
    EXPECT_CHILD_OK(in_child(body, {"PROCGUARD_SOCKET=" + socket(), "PROCGUARD_SOURCE=" + wanted}));
  }
  std::string socket() const { return directory_.at("agent.sock"); }

 private:
  TempTree directory_;
};

}  // namespace procguard::test
