// SPDX-License-Identifier: Apache-2.0
// GuardDriver: runs one guard machine by a fake clock and writes down what it does, in
// milliseconds since its start, so that a test is a table row: inputs at times, steps expected.
#pragma once

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/guard.h"
#include "tests/support/fake_clock.h"

namespace procguard::test {

// An input and when it comes, in ms since the guard's start.
struct At {
  core::Ns ms;
  core::Input input;
};

class GuardDriver {
 public:
  explicit GuardDriver(const core::GuardSpec& spec, core::Start start = {}) {
    auto made = core::make_guard(spec, 1);
    ok_ = made.ok();
    if (ok_) {
      guard_ = made.value();
      apply(core::step(guard_, start, clock_.now()));
      tick();
    }
  }

  // Lets time pass: every deadline on the way gets its tick on time.
  void run_to(core::Ns ms) { run_to_ns(origin_ + ms * core::kMillisecond); }
  void run_to_ns(core::Ns until) {
    for (core::Ns due = core::next_due(guard_); due <= until; due = core::next_due(guard_)) {
      clock_.set(std::max(due, clock_.now()));
      tick();
    }
    clock_.set(until);
  }
  // The controller sleeps until then: deadlines on the way are missed.
  void stall_to(core::Ns ms) {
    clock_.set(origin_ + ms * core::kMillisecond);
    tick();
  }
  void feed(const core::Input& input) {
    apply(core::step(guard_, input, clock_.now()));
    tick();
  }
  void play(const std::vector<At>& script) {
    for (const At& at : script) {
      run_to(at.ms);
      feed(at.input);
    }
  }
  // As the controller does: ticks until nothing is due.
  void tick() {
    do {
      apply(core::step(guard_, core::Tick{}, clock_.now()));
    } while (core::next_due(guard_) <= clock_.now());
  }

  // "timeout/0@300 timeout/1@1300": resource/step@ms. A result other than "sent" follows:
  // "=merged".
  std::string steps() const { return steps_; }
  // "armed over back_under": the other events.
  std::string events() const { return events_; }
  // What became of steps from now on, by signal; "sent" unless told otherwise.
  void answer(std::uint32_t signal, pg_result result) { answers_[signal] = result; }

  core::Ns origin() const { return origin_; }
  core::Ns now() const { return clock_.now(); }
  bool ok() const { return ok_; }
  pg_guard& guard() { return guard_; }
  pg_limit& limit(pg_resource resource) { return guard_.limit[resource]; }
  const std::vector<core::TakeStep>& taken() const { return taken_; }
  const std::vector<pg_event>& told() const { return told_; }

 private:
  void apply(const core::Actions& actions) {
    for (const core::Action& action : actions) {
      if (const auto* emitted = std::get_if<core::Emit>(&action)) {
        write_down(emitted->event);
      }
    }
    for (const core::Action& action : actions) {
      if (const auto* step = std::get_if<core::TakeStep>(&action)) {
        taken_.push_back(*step);
        auto answer = answers_.find(step->step.signal);
        apply(core::step(
            guard_,
            core::StepResult{.result = answer == answers_.end() ? PG_RESULT_SENT : answer->second,
                             .error = 0,
                             .due_ns = step->due_ns},
            clock_.now()));
      }
    }
  }
  void write_down(const pg_event& event) {
    told_.push_back(event);
    if (event.kind != PG_EVENT_STEP) {
      events_ += (events_.empty() ? "" : " ") + std::string(core::event_name(event.kind));
      return;
    }
    steps_ += (steps_.empty() ? "" : " ") + std::string(core::resource_name(event.resource)) + "/" +
              std::to_string(event.step) + "@" +
              std::to_string((event.at_ns - origin_) / core::kMillisecond);
    if (event.result != PG_RESULT_SENT) {
      steps_ += std::string("=") + core::result_name(event.result);
    }
  }

  FakeClock clock_;
  core::Ns origin_ = clock_.now();
  bool ok_ = false;
  pg_guard guard_{};
  std::map<std::uint32_t, pg_result> answers_;
  std::vector<core::TakeStep> taken_;
  std::vector<pg_event> told_;
  std::string steps_;
  std::string events_;
};

}  // namespace procguard::test
