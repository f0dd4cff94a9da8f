// SPDX-License-Identifier: Apache-2.0
// A controller with everything around it faked: clock, source, signaler, sink.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <string>
#include <vector>

#include "core/ladder.h"
#include "engine/controller.h"
#include "tests/support/capture_sink.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_signaler.h"
#include "tests/support/fake_source.h"

namespace procguard::test {

inline constexpr std::uint64_t kMiB = 1 << 20;

class ControllerFixture : public ::testing::Test {
 protected:
  static constexpr pid_t kPid = 42;

  static core::GuardSpec spec(const char* ladder = "INT:1s,TERM:1s,KILL") {
    core::GuardSpec made;
    made.name = "job";
    made.ladder = core::parse_ladder(ladder).value();
    return made;
  }
  engine::Target target(pg_scope scope = PG_SCOPE_TREE) const {
    engine::Target made;
    made.scope = scope;
    made.pid = scope == PG_SCOPE_CGROUP ? 0 : kPid;
    made.cgroup_path = scope == PG_SCOPE_CGROUP ? "/cg" : "";
    made.cgroup_id = scope == PG_SCOPE_CGROUP ? 7 : 0;
    return made;
  }
  // Arms, notes the watch, forgets the journal.
  void arm(const core::GuardSpec& made, const engine::Target& whom) {
    auto armed = controller_.arm(made, whom);
    ASSERT_TRUE(armed.ok()) << armed.error().message();
    guard_ = armed.value();
    watch_ = controller_.find(guard_)->watch;
    journal_.clear();
  }
  void arm_and_start(const core::GuardSpec& made, pg_scope scope = PG_SCOPE_TREE) {
    arm(made, target(scope));
    auto started = controller_.start(guard_, clock_.now());
    ASSERT_TRUE(started.ok()) << started.error().message();
    journal_.clear();
  }
  // As a host's loop does: on_time() whenever next_due() has come.
  void run_for(core::Ns ms) {
    const core::Ns until = clock_.now() + ms * core::kMillisecond;
    for (core::Ns due = controller_.next_due(); due <= until; due = controller_.next_due()) {
      clock_.set(std::max(due, clock_.now()));
      controller_.on_time();
    }
    clock_.set(until);
  }
  // Only what was sent.
  Journal sent() const {
    Journal lines;
    for (const std::string& line : journal_) {
      if (line.find(' ') != std::string::npos && !line.ends_with("CONT")) {
        lines.push_back(line);
      }
    }
    return lines;
  }
  const pg_guard& state() const { return *controller_.find(guard_); }

  engine::ProcessFacts facts_;  // of everybody
  FakeClock clock_;
  Journal journal_;
  FakeSource source_{clock_, journal_};
  FakeSignaler signaler_{source_, journal_};
  engine::Executor executor_{source_, signaler_, [this](pid_t, int) { return facts_; }, 900};
  CaptureSink sink_;
  engine::Controller controller_{source_, executor_, clock_, sink_};
  std::uint64_t guard_ = 0;
  engine::WatchId watch_ = 0;
};

}  // namespace procguard::test
