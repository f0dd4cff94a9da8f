// SPDX-License-Identifier: Apache-2.0
// What tests of the BPF programs share: a source over programs that were loaded for the test, what
// /proc says to compare with. One thread.
#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/bpf_source.h"
#include "kernel/programs.h"
#include "sys/monotonic_clock.h"
#include "tests/support/peer.h"
#include "tests/support/processes.h"
#include "tests/support/test_cgroup.h"

namespace procguard::test {

// Why BPF cannot be had here; empty: it can.
std::string why_no_bpf();

// ---- looking ------------------------------------------------------------------------------------

// RSS by part as /proc/PID/status and statm have it.
struct Rss {
  std::uint64_t file = 0;
  std::uint64_t anon = 0;
  std::uint64_t shmem = 0;
  std::uint64_t total = 0;  // statm
};
// `tid`: a live thread, where the leader has exited.
Rss rss_of(pid_t pid, pid_t tid = 0);

// Waits until no thread of these processes runs or is about to: all sleep, are stopped, or ended.
bool at_rest(const std::vector<pid_t>& pids);

// ---- the fixture --------------------------------------------------------------------------------

// Skips where BPF cannot be had. At its end no entry may be left of what has ended, and nothing may
// have been lost, unless the test says so.
class Watched : public testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  // Again with other sizes.
  void load(const kernel::LoadOptions& options, bool account_memory = true);
  void unload();

  engine::BpfSource& source() { return *source_; }
  kernel::Programs& programs() { return *programs_; }

  static engine::Target target(pg_scope scope, pid_t pid, pid_t tid = 0);
  // 0 after a failure.
  engine::WatchId watch(const engine::Target& target);
  engine::WatchId watch_tree(pid_t pid);
  engine::WatchId watch_process(pid_t pid);
  engine::WatchId watch_thread(pid_t pid, pid_t tid);
  engine::WatchId watch_cgroup(const TestCgroup& cgroup);
  engine::Levels levels(engine::WatchId watch);
  void limit_memory(engine::WatchId watch, std::uint64_t bytes, int signal = 0);
  void limit_cpu(engine::WatchId watch, std::chrono::nanoseconds cpu);

  std::vector<pid_t> member_pids(engine::WatchId watch);  // in ascending order
  bool is_member(engine::WatchId watch, pid_t pid);
  pg_process process(pid_t pid);
  std::optional<pg_thread> thread(pid_t tid);
  // Waits until the ring says "look at this watch".
  bool edge(engine::WatchId watch, std::chrono::seconds deadline = std::chrono::seconds(10));

  // The counted and the plain sum, and every part of a single-process watch, are what /proc says.
  void expect_exact(engine::WatchId watch, pid_t pid, const char* when, pid_t tid = 0);

  void losses_are_expected() { losses_expected_ = true; }

  sys::MonotonicClock clock_;

 private:
  std::unique_ptr<engine::BpfSource> source_;
  kernel::Programs* programs_ = nullptr;
  bool losses_expected_ = false;
};

}  // namespace procguard::test
