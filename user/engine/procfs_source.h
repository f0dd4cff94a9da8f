// SPDX-License-Identifier: Apache-2.0
// ProcfsSource: usage and membership by looking at /proc, for where BPF cannot be had. It looks
// only while a memory or CPU threshold is in force, and then as often as a crossing could matter;
// that a held member ended, or a cgroup became empty, the kernel tells without a look.
//
// What it cannot do: see what was born and ended between two looks, know the moment of a crossing
// better than to a look, act in the kernel (first step, kill at birth), know when an exec was.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <vector>

#include "bpf/contract.h"
#include "core/clock.h"
#include "engine/procfs_accounts.h"
#include "engine/procfs_members.h"
#include "engine/procfs_options.h"
#include "engine/procfs_usage.h"
#include "engine/source.h"
#include "sys/fd.h"

namespace procguard::engine {

class ProcfsSource final : public Source {
 public:
  // `clock` must outlive the source.
  static Result<std::unique_ptr<ProcfsSource>> create(const core::Clock& clock,
                                                      ProcfsOptions options);
  ~ProcfsSource() override;

  const char* name() const override { return "procfs"; }
  const char* membership() const override;
  Result<WatchId> watch(const Target& target) override;
  Result<void> set_thresholds(WatchId watch, const Thresholds& thresholds) override;
  Result<Levels> levels(WatchId watch) override;
  void acknowledge(WatchId, int, const ThresholdState&) override {}
  Result<void> read_memory(WatchId) override { return {}; }  // it always is
  void set_failsafe(WatchId, const Failsafe&) override {}
  void acknowledge_failsafe(WatchId) override {}
  void take_over(WatchId) override {}
  Result<std::vector<Member>> members(WatchId watch) override;
  Result<sys::Fd> open_member(WatchId watch, const Member& member) override;
  // Members of a doomed tree are stopped when they are found; to kill them is the caller's part.
  void doom(WatchId watch) override;
  Result<Usage> usage(WatchId watch) override;
  core::Ns exec_time(WatchId, pid_t) override { return 0; }
  void release(WatchId watch) override;
  int event_fd() const override { return epoll_.get(); }
  std::vector<WatchId> drain() override;
  core::Ns next_check(core::Ns now) override;
  // From the next look on; see ProcfsOptions. Below its least interval it is that, too.
  void set_check_interval(core::Ns interval);
  void trace(const pg_event&) override {}
  void publish(const pg_guard&) override {}

 private:
  struct Watch;

  ProcfsSource(const core::Clock& clock, ProcfsOptions options, sys::Fd epoll);

  Watch* find(WatchId watch);
  void take_events();
  Result<void> follow_cgroup(Watch& watch, WatchId id) const;
  ProcfsMembers::Claim claim_of(WatchId mine, pid_t pid) const;
  // Reads everything of it anew.
  Result<void> look(Watch& watch);
  bool compare(Watch& watch, core::Ns now);
  core::Ns next_look(const Watch& watch, core::Ns now) const;
  core::Ns memory_wait(const Watch& watch, core::Ns now) const;
  core::Ns cpu_wait(const Watch& watch) const;

  const core::Clock& clock_;
  ProcfsOptions options_;
  sys::Fd epoll_;
  WatchId next_id_ = 1;
  std::map<WatchId, std::unique_ptr<Watch>> watches_;
};

}  // namespace procguard::engine
