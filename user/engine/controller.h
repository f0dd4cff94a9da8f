// SPDX-License-Identifier: Apache-2.0
// Controller: source -> core -> executor. Maps guards onto watches, feeds the machines, takes their
// steps, tells the sink. A guest in its host's loop: the host calls on_source() when event_fd() is
// readable and on_time() when next_due() has come; it never touches signals, SIGCHLD or waitpid.
// Single-threaded; nothing here blocks or throws.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

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

  // Watches the target and puts the thresholds in force. Counting begins with start().
  Result<std::uint64_t> arm(const core::GuardSpec& spec, const Target& target);
  // The guard's clock starts at `at_ns` (run: the completed exec, which may be a moment ago). CPU
  // and RSS of this moment are its bases; levels already over their limit are crossings.
  Result<void> start(std::uint64_t guard, core::Ns at_ns);
  void progress(std::uint64_t guard);
  // The target's first process has ended: for scope process the guard is over.
  void target_gone(std::uint64_t guard);
  // Stops guarding. A sweep of a doomed target goes on until no member lives (see busy()).
  void release(std::uint64_t guard);

  void on_source();
  void on_time();
  core::Ns next_due();
  // Doomed members are still being ended: the host must not leave its loop yet.
  bool busy() const;

  const pg_guard* find(std::uint64_t guard) const;
  const Target* target(std::uint64_t guard) const;
  Result<Levels> levels(std::uint64_t guard);
  Result<Usage> usage(std::uint64_t guard);

 private:
  struct Entry {
    pg_guard state;
    Target target;
    WatchId watch = 0;
    bool doomed = false;  // the last KILL was sent; sweep until nobody lives
    core::Ns sweep_at = core::kNever;
    core::Ns sweep_wait = 0;
    std::uint64_t kernel_acted_seen[2] = {0, 0};
  };

  void feed(Entry& entry, const core::Input& input);
  void drive(Entry& entry);
  void read_levels(Entry& entry);
  void take(Entry& entry, const core::TakeStep& step);
  void sweep(Entry& entry);
  void emit(Entry& entry, const pg_event& event, const Outcome* outcome);
  Thresholds thresholds_of(const pg_guard& guard) const;

  Source& source_;
  Executor& executor_;
  const core::Clock& clock_;
  EventSink& sink_;
  std::uint64_t next_id_ = 1;
  std::map<std::uint64_t, Entry> guards_;
};

}  // namespace procguard::engine
