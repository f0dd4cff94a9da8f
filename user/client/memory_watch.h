// SPDX-License-Identifier: Apache-2.0
// MemoryWatch: the one watch of this process on its own RSS, for any number of guards. Whoever
// enters a memory guard is counted as its user and waits until it is there; the monitor starts it,
// keeps its two thresholds nearest to the level, and stops it when nobody has used it for a while.
//
// With an agent the watch is the agent's, over a session. When the session is lost the process goes
// on by itself, and looks for an agent again once in a while.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "client/agent_seeker.h"
#include "client/own_rss.h"
#include "client/own_source.h"
#include "client/patrol.h"
#include "core/clock.h"
#include "core/result.h"
#include "engine/source.h"

namespace procguard::client {

class MemoryWatch {
 public:
  explicit MemoryWatch(const core::Clock& clock) : clock_(clock) {}

  // --- any thread ---
  // Counts the caller as a user. 0: it is running; EAGAIN: it is not yet, call want(), wake the
  // monitor and call wait_until_started().
  int use();
  // As the environment says now; one thread at a time.
  void want();
  void end_use() { users_.fetch_sub(1); }
  // 0, or an errno value: it cannot be started.
  int wait_until_started();
  // The process's RSS now. Only for a user, or the monitor.
  Result<std::uint64_t> rss_bytes() const;
  // A limit below this has to be told to the monitor.
  std::uint64_t armed_bytes() const { return armed_bytes_.load(); }
  bool in_use() const { return users_.load() != 0; }
  const char* source_name() const { return source_name_.load(); }

  // --- the monitor ---
  // Takes what its sources have to say, then starts, stops and changes them as wanted. Returns when
  // it wants to be called again at the latest.
  core::Ns serve(core::Ns now);
  // Anybody who enters from now on tells the monitor.
  void disarm_look() { armed_bytes_.store(core::kNever); }
  // Where the level cannot be read it is the last that is known, and is looked at again soon.
  MemoryView view();
  // Puts what the round found in force; true if the level has crossed one of them meanwhile.
  bool arm(const Round& round, const MemoryView& seen);
  // What becomes readable when serve() is wanted; -1: nothing.
  std::array<int, 2> event_fds() const;
  // Closes sources that are used no more: after serve(), when nobody follows their descriptors any
  // more. When to try again.
  core::Ns free_retired(core::Ns now);
  core::Ns next_check(core::Ns now) const;
  // Lines for people, since the last call.
  std::vector<std::string> take_messages() { return std::exchange(messages_, {}); }
  bool running() const { return state_.load() == kRunning; }
  // In a fork's child, whose parent's monitor is not there.
  void abandon();

 private:
  enum State : std::uint32_t { kOff, kWanted, kRunning, kFailed };

  core::Ns start(core::Ns now);
  void started(const Result<void>& result);
  Result<void> start_own(Wish wanted);
  Result<void> start_agents();
  Result<void> put_to_use(Readings readings);
  void retire_source();
  core::Ns follow_agent(core::Ns now);
  void fall_back();
  void seek_later(core::Ns now, const Error& why);
  void tell(const std::string& text);
  void tell_once(const Error& why);
  core::Ns stop_if_unused(core::Ns now);
  void stop();
  void put_in_force(const engine::Thresholds& wanted);
  void look_again();

  const core::Clock& clock_;
  std::atomic<std::uint32_t> state_{kOff};  // a futex
  Wanted wanted_;                           // the monitor's while kWanted
  std::atomic<std::uint32_t> users_{0};
  std::atomic<std::uint64_t> armed_bytes_{core::kNever};
  std::atomic<const __s64*> level_{nullptr};       // the kernel's own; nullptr: ask rss_
  mutable std::atomic<std::uint32_t> readers_{0};  // of level_, which goes when there are none
  OwnRss rss_;
  std::atomic<const char*> source_name_{nullptr};
  std::atomic<int> error_{0};

  // The monitor's own.
  Wish wish_ = Wish::kAuto;
  std::string socket_;
  Readings readings_;
  std::vector<std::unique_ptr<engine::Source>> retired_;  // somebody may still read from them
  AgentSeeker seeker_{clock_};
  bool agent_was_used_ = false;
  bool told_ = false;
  std::vector<std::string> messages_;
  core::Ns seek_at_ns_ = core::kNever;
  core::Ns seek_wait_ = 0;
  engine::WatchId watch_ = 0;
  engine::Thresholds in_force_;
  std::uint64_t seen_bytes_ = 0;
  core::Ns look_again_ns_ = core::kNever;
  core::Ns over_when_armed_[2] = {0, 0};  // their over_since when they were put in force
  core::Ns unused_since_ = core::kNever;
};

}  // namespace procguard::client
