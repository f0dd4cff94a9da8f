// SPDX-License-Identifier: Apache-2.0
// BpfSource: the kernel counts, compares and tells. User space sleeps until a level is crossed.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "core/clock.h"
#include "engine/source.h"
#include "kernel/programs.h"

namespace procguard::engine {

struct BpfSourceOptions {
  kernel::LoadOptions load;
  bool account_memory = false;  // attach the memory program even without a memory threshold
  bool account_time = true;     // attach the scheduler program: CPU limits, times in usage()
};

class BpfSource final : public Source {
 public:
  // Loads the programs and attaches lifecycle and scheduler (and memory where it is asked for).
  // Error code EPERM: capabilities are missing. `clock` must outlive the source.
  static Result<std::unique_ptr<BpfSource>> create(const core::Clock& clock,
                                                   const BpfSourceOptions& options);
  // The same with programs that are loaded already.
  static Result<std::unique_ptr<BpfSource>> over(const core::Clock& clock,
                                                 std::unique_ptr<kernel::Programs> programs,
                                                 bool account_memory, bool account_time = true);
  // The same, with nothing attached: attach() when there is something to watch.
  static std::unique_ptr<BpfSource> idle(const core::Clock& clock,
                                         std::unique_ptr<kernel::Programs> programs);

  // A watch that an earlier process left in pinned programs. Error code ENOENT: it is not there.
  Result<void> adopt(WatchId watch, const Target& target);
  // The watches that are there, whoever made them.
  std::vector<WatchId> present();
  // Ends watches that nobody adopted.
  void drop(WatchId watch) { free_slot(watch); }
  // Attaches what guards need, or takes it all off again.
  Result<void> attach();
  void detach();
  kernel::Programs& programs() { return *programs_; }

  const char* name() const override { return "bpf"; }
  const char* membership() const override { return "bpf"; }
  // Memory sums are exact; else they lag by a bounded number of pages (see doctor).
  bool exact_sums() const { return programs_->exact_sums(); }

  Result<WatchId> watch(const Target& target) override;
  Result<void> set_thresholds(WatchId watch, const Thresholds& thresholds) override;
  Result<Levels> levels(WatchId watch) override;
  void acknowledge(WatchId watch, int slot, const ThresholdState& seen) override;
  Result<void> read_memory(WatchId watch) override;
  void set_failsafe(WatchId watch, const Failsafe& failsafe) override;
  void acknowledge_failsafe(WatchId watch) override;
  // Where the kernel keeps Levels::memory_bytes of this watch, to be loaded atomically by any
  // thread while the watch lives; nullptr: no such watch.
  const __s64* memory_level(WatchId watch);
  void take_over(WatchId watch) override;
  Result<std::vector<Member>> members(WatchId watch) override;
  Result<sys::Fd> open_member(WatchId watch, const Member& member) override;
  void doom(WatchId watch) override;
  void end_doom(WatchId watch) override;
  Result<Usage> usage(WatchId watch) override;
  core::Ns exec_time(WatchId watch, pid_t pid) override;
  void release(WatchId watch) override;
  int event_fd() const override { return programs_->ring_fd(); }
  std::vector<WatchId> drain() override;
  core::Ns next_check(core::Ns now) override;
  void trace(const pg_event& event) override;
  void publish(const pg_guard& guard) override { programs_->publish(guard); }

 private:
  BpfSource(const core::Clock& clock, std::unique_ptr<kernel::Programs> programs)
      : clock_(clock), programs_(std::move(programs)) {}

  pg_watch* find(WatchId watch);
  Result<void> enrol(WatchId watch, const Target& target);
  Result<void> check_free(const Target& target) const;
  Result<std::vector<pg_thread>> threads_of(const std::vector<Member>& members) const;
  Result<WatchId> allocate(const Target& target);
  void free_slot(WatchId watch);

  const core::Clock& clock_;
  std::unique_ptr<kernel::Programs> programs_;
  std::map<WatchId, Target> targets_;
  std::set<WatchId> memory_read_;  // what their members had grown to was read once
  bool account_memory_ = false;
  bool account_time_ = true;
  std::size_t next_slot_ = 0;
  std::uint64_t losses_seen_ = 0;
  bool doom_wanted_ = false;
  core::Ns doom_ends_ = core::kNever;  // when its program is to be detached
};

}  // namespace procguard::engine
