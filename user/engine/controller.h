// SPDX-License-Identifier: Apache-2.0
// Controller: source -> core -> executor. Maps guards onto watches, feeds the machines, takes their
// steps, tells the sink. A guest in its host's loop: the host calls on_source() when the source's
// event_fd() is readable and on_time() when next_due() has come; it never touches signals, SIGCHLD
// or waitpid. Single-threaded; nothing here blocks or throws. The sink may ask (find, levels,
// usage), but not act.
//
// Guards of one owner on one target share a watch: see thresholds.h for what is in force on it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/clock.h"
#include "core/guard.h"
#include "core/result.h"
#include "engine/event_sink.h"
#include "engine/executor.h"
#include "engine/source.h"
#include "engine/thresholds.h"

namespace procguard::engine {

class Controller {
 public:
  // `first_id`: the id of the first guard; each later one has the next number.
  Controller(Source& source, Executor& executor, const core::Clock& clock, EventSink& sink,
             std::uint64_t first_id = 1)
      : source_(source), executor_(executor), clock_(clock), sink_(sink), next_id_(first_id) {}

  // Watches the target; its scope and owner are the guard's. Nothing trips before start().
  Result<std::uint64_t> arm(const core::GuardSpec& spec, const Target& target);
  // The guard's clock starts at `at_ns` (run: the completed exec, which may be a moment ago; 0 or
  // the future: now). CPU and RSS of this moment are its bases; the thresholds are put in force,
  // and levels already over them are crossings. Errors: unknown or started guard, a source that
  // cannot read or compare a level that is limited.
  Result<void> start(std::uint64_t guard, core::Ns at_ns);
  // Goes on with a guard of an earlier controller, whose watch is still there and whose target is
  // the same. Adopt all, then call resume_all(). Errors: its watch is not there; an id that is
  // taken.
  Result<void> adopt(const pg_guard& state, const Target& target);
  // Puts the thresholds of adopted guards in force again and takes what is overdue.
  void resume_all();

  void progress(std::uint64_t guard);
  // Changes or adds a limit. Errors: unknown guard; a source that cannot compare the level.
  Result<void> set_limit(std::uint64_t guard, pg_resource resource, std::uint64_t limit);
  void pause(std::uint64_t guard);
  void resume(std::uint64_t guard);
  // The target's first process has ended: for scope thread and process the guard is over. A tree's
  // is over when the source says that nobody is left in it, a cgroup's never by itself.
  void target_gone(std::uint64_t guard);
  // The target is gone for good, whatever its scope (a removed cgroup).
  void target_removed(std::uint64_t guard);
  // Stops guarding. A sweep of a doomed target goes on until no member lives (see busy()). The
  // watch ends with its last guard: ask for levels() and usage() before. The state stays readable
  // by find().
  void release(std::uint64_t guard);
  // Drops the state of a released guard.
  void forget(std::uint64_t guard);

  // `others`: watches of the same source that are not the controller's.
  void on_source(const std::function<void(WatchId)>& others = {});
  void on_time();
  // When on_time() is wanted at the latest; kNever if nothing is due.
  core::Ns next_due();
  // Doomed members are still being ended: the host must not leave its loop yet.
  bool busy() const { return !sweeps_.empty(); }

  const pg_guard* find(std::uint64_t guard) const;
  const Target* target(std::uint64_t guard) const;
  Result<Levels> levels(std::uint64_t guard);
  Result<Usage> usage(std::uint64_t guard);
  // The number of guards that are kept, ended ones that were not forgotten included.
  std::size_t size() const { return guards_.size(); }
  std::size_t watches() const { return watches_.size(); }
  // The first guard with an id above `after`; nullptr: there is none.
  const pg_guard* next_after(std::uint64_t after) const;

 private:
  struct Watch {
    WatchId id = 0;
    Target target;
    std::vector<std::uint64_t> guards;
    Thresholds in_force;
    Failsafe failsafe;
    // SIGKILL was sent to a tree or cgroup: sweep until nobody lives.
    core::Ns sweep_at = core::kNever;
    core::Ns sweep_wait = 0;
    unsigned sweep_failures = 0;
  };
  struct Entry {
    pg_guard state{};
    core::Ns queued = core::kNever;  // its place in deadlines_
    bool degraded = false;           // said once
    bool released = false;           // it counts for its watch no more
  };
  // Scope, pid, tid, cgroup, owner, and whether the owner is bound by uids.
  using Key = std::tuple<std::uint32_t, pid_t, pid_t, std::uint64_t, std::uint32_t, bool>;

  static Key key_of(const Target& target);
  Entry* entry(std::uint64_t guard);
  const Entry* entry(std::uint64_t guard) const;
  Watch* watch_of(const Entry& entry);
  Result<Watch*> share_or_watch(const Target& target);
  bool still_same(Watch& watch);
  void note_target(Entry& entry, const Watch& watch);

  // --- controller_feed.cpp: levels into the machines
  bool read_levels(Watch& watch, Levels& levels);
  void feed_levels(Entry& entry, const Watch& watch, const Levels& levels);
  void feed_memory(Entry& entry, const Watch& watch, pg_resource resource, const Levels& levels);
  void feed_kernel_step(Watch& watch, int slot, const Levels& levels);
  void feed_failsafe(Watch& watch, const Levels& levels);
  core::Ns since_by_slot(const Entry& entry, const ThresholdState& state, core::Ns own) const;
  core::Ns counts_from(const Entry& entry) const;
  static pg_resource timed_by(const pg_guard& guard, core::Ns due);
  int kernels_slot(const Entry& entry, const Watch& watch, const core::TakeStep& step);

  // --- controller_drive.cpp: steps out of them
  void feed(Entry& entry, const core::Input& input, core::Ns now);
  void drive(Entry& entry);
  void drive_watch(Watch& watch);
  void tick(Entry& entry);
  Outcome take(Entry& entry, const core::TakeStep& step);
  void sweep(Watch& watch);
  void schedule_sweep(Watch& watch, core::Ns at);
  void begin_sweeping(Watch& watch);
  void go_on_sweeping(Watch& watch);
  void emit(Entry& entry, const pg_event& event, const Outcome* outcome);
  void degrade(Entry& entry, int error);
  void degrade_all(Watch& watch, int error);
  Demand demand_of(const Watch& watch) const;
  Thresholds wanted_of(const Watch& watch, std::uint64_t level) const;
  Failsafe failsafe_of(const Watch& watch) const;
  Result<void> put_in_force(Watch& watch, const Thresholds& wanted);
  void put_failsafe(Watch& watch, const Failsafe& wanted);
  Result<void> read_memory(const Watch& watch, const pg_guard& guard);
  Result<void> compare_with(Entry& entry, Watch& watch, core::SetLimit& input);
  void refresh_thresholds(Watch& watch);
  void refresh_failsafe(Watch& watch);
  void refresh_for(const Entry& entry, Watch& watch);
  void leave_watch(Entry& entry);
  void release_watch(Watch& watch);
  void reschedule(Entry& entry);

  Source& source_;
  Executor& executor_;
  const core::Clock& clock_;
  EventSink& sink_;
  std::uint64_t next_id_;
  std::map<std::uint64_t, Entry> guards_;
  std::unordered_map<WatchId, Watch> watches_;
  std::map<Key, WatchId> by_target_;
  std::set<std::pair<core::Ns, std::uint64_t>> deadlines_;  // (when, guard)
  std::set<std::pair<core::Ns, WatchId>> sweeps_;
  std::set<WatchId> look_again_;                            // their thresholds were changed
  std::unordered_map<std::uint64_t, core::Ns> begun_anew_;  // guards that were resumed or set
};

}  // namespace procguard::engine
