// SPDX-License-Identifier: Apache-2.0
// Controller: source -> core -> executor. Maps guards onto watches, feeds the machines, takes their
// steps, tells the sink. A guest in its host's loop: the host calls on_source() when the source's
// event_fd() is readable and on_time() when next_due() has come; it never touches signals, SIGCHLD
// or waitpid. Single-threaded; nothing here blocks or throws. The sink may ask (find, levels,
// usage), but not act.
//
// One watch a guard for now. Threshold memory[0] is the guard's memory limit, memory[1] its
// memory_growth.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <utility>

#include "core/clock.h"
#include "core/guard.h"
#include "core/result.h"
#include "engine/event_sink.h"
#include "engine/executor.h"
#include "engine/source.h"

namespace procguard::engine {

class Controller {
 public:
  Controller(Source& source, Executor& executor, const core::Clock& clock, EventSink& sink)
      : source_(source), executor_(executor), clock_(clock), sink_(sink) {}

  // Watches the target; its scope and owner are the guard's. Nothing trips before start().
  Result<std::uint64_t> arm(const core::GuardSpec& spec, const Target& target);
  // The guard's clock starts at `at_ns` (run: the completed exec, which may be a moment ago; 0 or
  // the future: now). CPU and RSS of this moment are its bases; the thresholds are put in force,
  // and levels already over them are crossings. Errors: unknown or started guard, a source that
  // cannot read or compare a level that is limited.
  Result<void> start(std::uint64_t guard, core::Ns at_ns);
  void progress(std::uint64_t guard);
  // The target's first process has ended: for scope thread and process the guard is over. A tree's
  // is over when the source says that nobody is left in it, a cgroup's never by itself.
  void target_gone(std::uint64_t guard);
  // Stops guarding. A sweep of a doomed target goes on until no member lives (see busy()). The
  // watch ends with it: ask for levels() and usage() before. The state stays readable by find().
  void release(std::uint64_t guard);
  // Drops the state of a released guard.
  void forget(std::uint64_t guard);

  void on_source();
  void on_time();
  // When on_time() is wanted at the latest; kNever if nothing is due.
  core::Ns next_due();
  // Doomed members are still being ended: the host must not leave its loop yet.
  bool busy() const;

  const pg_guard* find(std::uint64_t guard) const;
  const Target* target(std::uint64_t guard) const;
  Result<Levels> levels(std::uint64_t guard);
  Result<Usage> usage(std::uint64_t guard);

 private:
  struct Entry {
    pg_guard state{};
    Target target;
    WatchId watch = 0;  // 0: released
    Thresholds in_force;
    core::Ns queued = core::kNever;  // its place in deadlines_
    bool degraded = false;           // said once
    bool released = false;           // by the host; the watch ends when no sweep needs it
    // SIGKILL was sent to a tree or cgroup: sweep until nobody lives.
    core::Ns sweep_at = core::kNever;
    core::Ns sweep_wait = 0;
    unsigned sweep_failures = 0;
    struct Seen {
      core::Ns acted_ns = 0;
      std::uint64_t episode = 0;  // the last one that the machine knows of
    } seen[2];                    // by memory threshold
  };

  Entry* entry(std::uint64_t guard);
  const Entry* entry(std::uint64_t guard) const;
  void feed(Entry& entry, const core::Input& input, core::Ns now);
  void drive(Entry& entry);
  void read_levels(Entry& entry);
  void feed_levels(Entry& entry, const Levels& levels);
  void feed_memory(Entry& entry, int slot, const Levels& levels);
  Outcome take(Entry& entry, const core::TakeStep& step);
  void sweep(Entry& entry);
  void end_sweep(Entry& entry);
  void emit(Entry& entry, const pg_event& event, const Outcome* outcome);
  void degrade(Entry& entry, int error);
  void refresh_thresholds(Entry& entry);
  void release_watch(Entry& entry);
  void reschedule(Entry& entry);

  Source& source_;
  Executor& executor_;
  const core::Clock& clock_;
  EventSink& sink_;
  std::uint64_t next_id_ = 1;
  std::map<std::uint64_t, Entry> guards_;
  std::map<WatchId, std::uint64_t> watched_;                // watch -> guard
  std::set<std::pair<core::Ns, std::uint64_t>> deadlines_;  // (when, guard)
};

}  // namespace procguard::engine
