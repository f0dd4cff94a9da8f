// SPDX-License-Identifier: Apache-2.0
// MemoryWatch: the one watch of this process on its own RSS, for any number of guards. Whoever
// enters a memory guard is counted as its user and waits until it is there; the monitor starts it,
// keeps its two thresholds nearest to the level, and stops it when nobody has used it for a while.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "client/patrol.h"
#include "core/clock.h"
#include "core/result.h"
#include "engine/source.h"

namespace procguard::engine {
class BpfSource;
class ProcfsSource;
}  // namespace procguard::engine

namespace procguard::client {

class MemoryWatch {
 public:
  explicit MemoryWatch(const core::Clock& clock) : clock_(clock) {}

  // --- any thread ---
  // Counts the caller as a user. 0: it is running; EAGAIN: it is not yet, wake the monitor and
  // call wait_until_started().
  int use();
  void end_use() { users_.fetch_sub(1); }
  // 0, or an errno value: it cannot be started.
  int wait_until_started();
  // The process's RSS now. Only for a user.
  std::uint64_t rss_bytes() const;
  // A limit below this has to be told to the monitor.
  std::uint64_t armed_bytes() const { return armed_bytes_.load(); }
  bool in_use() const { return users_.load() != 0; }
  const char* source_name() const { return source_name_.load(); }

  // --- the monitor ---
  // Starts and stops as wanted. Returns when it wants to be called again at the latest.
  core::Ns serve(core::Ns now);
  // Anybody who enters from now on tells the monitor.
  void disarm_look() { armed_bytes_.store(core::kNever); }
  MemoryView view();
  // Puts what the round found in force; true if the level has crossed one of them meanwhile.
  bool arm(const Round& round, const MemoryView& seen);
  int event_fd() const;
  void drain();
  core::Ns next_check(core::Ns now) const;
  bool running() const { return state_.load() == kRunning; }
  // In a fork's child, whose parent's monitor is not there.
  void abandon();

 private:
  enum State : std::uint32_t { kOff, kWanted, kRunning, kFailed };

  Result<void> start();
  void stop();
  void put_in_force(const engine::Thresholds& wanted);

  const core::Clock& clock_;
  std::atomic<std::uint32_t> state_{kOff};  // a futex
  std::atomic<std::uint32_t> users_{0};
  std::atomic<std::uint64_t> armed_bytes_{core::kNever};
  std::atomic<const __s64*> level_{nullptr};  // the kernel's own; nullptr: ask /proc
  std::atomic<const char*> source_name_{nullptr};
  std::atomic<int> error_{0};

  // The monitor's own.
  std::unique_ptr<engine::Source> source_;
  engine::ProcfsSource* procfs_ = nullptr;  // source_, where it is that
  engine::WatchId watch_ = 0;
  engine::Thresholds in_force_;
  core::Ns over_when_armed_[2] = {0, 0};  // their over_since when they were put in force
  core::Ns unused_since_ = core::kNever;
};

// Where readings would come from if they began now.
const char* likely_source_name();

}  // namespace procguard::client
