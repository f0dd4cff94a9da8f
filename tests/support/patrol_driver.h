// SPDX-License-Identifier: Apache-2.0
// PatrolDriver: in-process guards with neither monitor nor real thread. Time is fake, and what the
// patrol does is written down in ms since the origin, so that a test is a table row.
#pragma once

#include <algorithm>
#include <csignal>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "client/guard.h"
#include "client/patrol.h"
#include "client/thread.h"

namespace procguard::test {

struct GiveUp {
  void operator()(client::Guard* guard) const { client::give_up(guard); }
};
using GuardPtr = std::unique_ptr<client::Guard, GiveUp>;

// Throws where the options are refused.
inline GuardPtr guard_of(procguard_options options) {
  options.size = sizeof(options);
  auto made = client::make_guard(options);
  if (!made) {
    throw std::invalid_argument(made.error().message());
  }
  return GuardPtr(made.value());
}

// Writes steps down as "0@100 1@115"; pending exceptions are left to the test.
class StepRecorder : public client::Stepper {
 public:
  struct Step {
    const client::Entry* entry;
    procguard_trip trip;
  };

  explicit StepRecorder(core::Ns origin) : origin_(origin) {}

  pg_result take(client::Entry& entry, const procguard_trip& trip) override {
    steps.push_back({&entry, trip});
    text += (text.empty() ? "" : " ") + std::to_string(trip.step) + "@" + in_ms(trip.at_ns);
    if (trip.action == PG_ACTION_EXCEPTION) {
      entry.trip = trip;
      entry.set_pending();
    }
    return result;
  }
  void nudge(client::Entry&) override { nudges += (nudges.empty() ? "" : " ") + in_ms(now); }

  std::vector<Step> steps;
  std::string text;
  std::string nudges;  // "110 130"
  core::Ns now = 0;
  pg_result result = PG_RESULT_SENT;

 private:
  std::string in_ms(core::Ns at) const {
    return std::to_string((at - origin_) / core::kMillisecond);
  }
  core::Ns origin_;
};

class PatrolDriver {
 public:
  static constexpr core::Ns kOrigin = 1000 * core::kSecond;

  PatrolDriver() { thread_->used = true; }
  PatrolDriver(const PatrolDriver&) = delete;
  PatrolDriver& operator=(const PatrolDriver&) = delete;
  ~PatrolDriver() {
    for (client::Chunk* chunk = &thread_->first; chunk != nullptr;) {
      for (client::Entry& entry : chunk->entries) {
        leave({&entry, client::generation_of(entry.state.load())});
      }
      client::Chunk* next = chunk->next.load();
      if (chunk != &thread_->first) {
        delete chunk;
      }
      chunk = next;
    }
  }

  procguard_entry enter(const GuardPtr& guard, std::uint64_t rss = 0) {
    return thread_->free_entry()->enter(*guard, *thread_, nullptr, now_, rss);
  }
  static bool leave(procguard_entry handle) {
    client::Entry* entry = client::slot_of(handle);
    if (!entry->begin_leave(handle.generation)) {
      return false;
    }
    entry->clear_pending();
    client::Guard* guard = std::exchange(entry->guard, nullptr);
    entry->end_leave(handle.generation);
    client::give_up(guard);
    return true;
  }
  // True: the monitor has to be told.
  bool progress(procguard_entry handle) const { return client::slot_of(handle)->restart(now_); }

  // The level, from now on. `over_since_ms`: the kernel's time of the crossing of `limit`.
  void set_memory(std::uint64_t bytes) {
    memory_ = {};
    memory_.bytes = bytes;
  }
  void set_crossing(std::uint64_t limit, core::Ns over_since_ms) {
    memory_.crossings[0] = {limit, at(over_since_ms)};
  }

  // One look, now.
  client::Round round() {
    recorder.now = now_;
    return client::patrol(thread_.get(), recorder, memory_, now_);
  }
  // Looks as often as the rounds ask for. It never may be asked to look again at once.
  void run_to(core::Ns ms) {
    client::Round last = round();
    while (last.next_ns <= at(ms)) {
      if (last.next_ns <= now_) {
        throw std::logic_error("a round asked for another one at once");
      }
      now_ = last.next_ns;
      last = round();
    }
    now_ = at(ms);
  }
  // Without a look in between.
  void sleep_to(core::Ns ms) { now_ = at(ms); }

  static core::Ns at(core::Ns ms) { return kOrigin + ms * core::kMillisecond; }
  client::Thread& thread() { return *thread_; }

  StepRecorder recorder{kOrigin};

 private:
  std::unique_ptr<client::Thread> thread_ = std::make_unique<client::Thread>();
  client::MemoryView memory_;
  core::Ns now_ = kOrigin;
};

// The presets, with and without send_kill, and the words of their steps.
struct Ladder {
  procguard_interrupt type;
  bool send_kill;
  const char* name;
  int signals[3];  // 0: an exception
};
inline constexpr Ladder kLadders[] = {
    {PROCGUARD_EXCEPTION, false, "exception", {0, 0, 0}},
    {PROCGUARD_EXCEPTION, true, "exception_kill", {0, 0, 0}},
    {PROCGUARD_SIGNAL, false, "signal", {SIGINT, SIGTERM, SIGTERM}},
    {PROCGUARD_SIGNAL, true, "signal_kill", {SIGINT, SIGTERM, SIGKILL}},
    {PROCGUARD_EXCEPTION_THEN_SIGNAL, false, "exception_then_signal", {0, SIGINT, SIGTERM}},
    {PROCGUARD_EXCEPTION_THEN_SIGNAL, true, "exception_then_signal_kill", {0, SIGINT, SIGKILL}},
};

}  // namespace procguard::test
