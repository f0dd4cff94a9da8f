// SPDX-License-Identifier: Apache-2.0
// Recorder: the event sink of `procguard run`. Says what happens on standard error, keeps what the
// report and the exit status need, and has the threads looked at when a limit trips. Single thread.
#pragma once

#include <functional>
#include <set>
#include <string>

#include "cli/departures.h"
#include "cli/messages.h"
#include "cli/record.h"
#include "cli/run_options.h"
#include "core/clock.h"
#include "engine/event_sink.h"

namespace procguard::cli {

class Recorder final : public engine::EventSink {
 public:
  // What the recorder asks for when it needs it.
  struct Questions {
    std::function<Result<engine::Levels>()> levels;
    std::function<Result<engine::Usage>()> usage;
  };

  Recorder(const RunOptions& options, Messages& messages, const core::Clock& clock,
           Departures& departures, RunRecord& record)
      : options_(options),
        messages_(messages),
        clock_(clock),
        departures_(departures),
        record_(record) {}

  void answers(Questions questions) { ask_ = std::move(questions); }

  void on_event(const pg_guard& guard, const pg_event& event,
                const engine::Outcome* outcome) override;

  // Looks at the threads now, unless that was done a moment ago.
  void look();
  // The same, just before a signal leaves for the step that `guard` is taking. Not for a memory
  // limit: there each microsecond is memory.
  void look_before_signal(const pg_guard& guard);

  // A step has sent this signal to this process.
  bool has_sent(pid_t pid, int signal) const { return sent_.contains({pid, signal}); }

 private:
  void on_step(const pg_guard& guard, const pg_event& event, const engine::Outcome& outcome);
  void on_trip(const pg_guard& guard, pg_event event, const engine::Outcome& outcome);

  const RunOptions& options_;
  Messages& messages_;
  const core::Clock& clock_;
  Departures& departures_;
  RunRecord& record_;
  Questions ask_;
  std::set<std::pair<pid_t, int>> sent_;
};

}  // namespace procguard::cli
