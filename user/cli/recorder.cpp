// SPDX-License-Identifier: Apache-2.0
#include "cli/recorder.h"

#include <csignal>
#include <utility>

#include "cli/calm.h"
#include "core/event_text.h"
#include "core/guard.h"
#include "sys/files.h"

namespace procguard::cli {
namespace {

constexpr std::size_t kMaxSteps = 4096;     // of a limit that is crossed again and again
constexpr std::size_t kMaxReached = 65536;  // (process, signal) pairs
constexpr core::Ns kFreshLook = core::kSecond;

bool is_memory(std::uint32_t resource) {
  return resource == PG_MEMORY || resource == PG_MEMORY_GROWTH;
}

std::string comm_of(pid_t pid) {
  auto text = sys::read_file("/proc/" + std::to_string(pid) + "/comm");
  return text ? text->substr(0, text->find('\n')) : std::string();
}

}  // namespace

void Recorder::on_event(const pg_guard& guard, const pg_event& event,
                        const engine::Outcome* outcome) {
  if (event.kind == PG_EVENT_STEP && outcome != nullptr) {
    on_step(guard, event, *outcome);
  } else if (event.kind == PG_EVENT_DEGRADED) {
    record_.degraded = true;
    if (!options_.verbose) {
      messages_.note(core::event_text(event));
    }
  }
  if (options_.verbose) {
    messages_.note(core::event_text(event));
  }
}

void Recorder::on_step(const pg_guard& guard, const pg_event& event,
                       const engine::Outcome& outcome) {
  if (record_.steps.size() < kMaxSteps) {
    record_.steps.push_back({event, outcome.refused});
  } else {
    ++record_.steps_omitted;
  }
  const int signal = static_cast<int>(event.signal);
  for (const pid_t pid : outcome.reached) {
    if (sent_.size() < kMaxReached) {
      sent_.emplace(pid, signal);
    }
  }
  if (event.by == PG_BY_KERNEL && !outcome.reached.empty()) {
    departures_.hold_process(
        outcome.reached.front());  // who got it from us is known to the signaler
  }
  const bool acted = event.result != PG_RESULT_DRY_RUN && event.result != PG_RESULT_GONE;
  if (acted && !record_.ending.tripped) {
    record_.ending.tripped = static_cast<pg_resource>(event.resource);
  }
  if (acted && signal == SIGKILL && (!outcome.reached.empty() || outcome.others_reached)) {
    record_.ending.killed = true;
  }
  if (event.step == 0 && event.result != PG_RESULT_GONE) {
    on_trip(guard, event, outcome);
  }
}

void Recorder::on_trip(const pg_guard& guard, pg_event event, const engine::Outcome& outcome) {
  const Calm calm;
  look();
  const pg_limit& limit = guard.limit[event.resource];
  if (event.by == PG_BY_KERNEL && !outcome.reached.empty()) {
    event.pid = static_cast<__u32>(outcome.reached.front());
  }
  // The kernel acted at the crossing; when the level was read the target may have been dying. Its
  // peak is what was seen of the crossing.
  if (is_memory(event.resource) && event.observed <= event.limit) {
    if (auto levels = ask_.levels()) {
      event.observed = core::saturating_sub(levels->memory_peak_bytes, limit.base);
    }
  }
  TripRecord trip{.event = event,
                  .over_since_ns = is_memory(event.resource) || event.resource == PG_CPU
                                       ? limit.over_since_ns
                                       : event.due_ns,
                  .base = event.resource == PG_MEMORY_GROWTH ? limit.base : 0,
                  .comm = comm_of(static_cast<pid_t>(event.pid))};
  if (trip.over_since_ns == 0) {
    trip.over_since_ns = event.due_ns;  // it is back under the limit by now
  }
  if (trip.comm.empty() && static_cast<pid_t>(event.pid) == record_.pid) {
    trip.comm = record_.comm;
  }
  messages_.note(trip_text(record_.name, event, trip.over_since_ns,
                           {.pid = static_cast<int>(event.pid), .comm = trip.comm}));
  if (!record_.trip) {
    record_.trip = std::move(trip);
  }
}

void Recorder::look() {
  const core::Ns now = clock_.now();
  if (record_.trip || (record_.look && now - record_.look->at_ns < kFreshLook)) {
    return;
  }
  const Calm calm;
  auto usage = ask_.usage();
  if (!usage) {
    return;
  }
  Look look = look_at(std::move(usage).value(), now);
  // Who looks too late sees nobody; an older look is better then.
  if (!record_.look || !look.threads.empty()) {
    record_.look = std::move(look);
  }
}

void Recorder::look_before_signal(const pg_guard& guard) {
  if (!is_memory(guard.step_resource)) {
    look();
  }
}

}  // namespace procguard::cli
