// SPDX-License-Identifier: Apache-2.0
// The controller's sweeps: a SIGKILL on a tree or cgroup leaves no survivor.
#include <algorithm>

#include "engine/controller.h"
#include "engine/members_gone.h"

namespace procguard::engine {
namespace {

constexpr core::Ns kFirstSweep = 1 * core::kMillisecond;
constexpr core::Ns kLongestSweepWait = 50 * core::kMillisecond;
constexpr unsigned kSweepFailures = 20;  // in a row: about a second without a list of members

}  // namespace

void Controller::begin_sweeping(Watch& watch) {
  watch.sweep_wait = kFirstSweep;
  watch.sweep_failures = 0;
  schedule_sweep(watch, core::saturating_add(clock_.now(), kFirstSweep));
}

// Of an adopted watch: who doomed it (an agent in the midst of its sweeps, the kernel while there
// was none) may have left somebody alive.
void Controller::go_on_sweeping(Watch& watch) {
  const auto levels = source_.levels(watch.id);
  if (levels && levels->doomed && !levels->empty && watch.sweep_at == core::kNever) {
    begin_sweeping(watch);
  }
}

void Controller::sweep(Watch& watch) {
  auto alive = executor_.sweep(watch.target, watch.id);
  if (alive) {
    watch.sweep_failures = 0;
  } else if (!means_gone(alive.error()) && ++watch.sweep_failures >= kSweepFailures) {
    degrade_all(watch, alive.error().code());
  }
  const bool over = alive ? alive.value() == 0
                          : means_gone(alive.error()) || watch.sweep_failures >= kSweepFailures;
  if (over) {
    schedule_sweep(watch, core::kNever);
    if (watch.target.scope == PG_SCOPE_CGROUP) {
      source_.end_doom(watch.id);  // also where somebody may not be killed: who comes later lives
    }
    if (watch.guards.empty()) {
      release_watch(watch);
    } else {
      drive_watch(watch);
    }
    return;
  }
  watch.sweep_wait = std::min(watch.sweep_wait * 2, kLongestSweepWait);
  schedule_sweep(watch, core::saturating_add(clock_.now(), watch.sweep_wait));
}

void Controller::schedule_sweep(Watch& watch, core::Ns at) {
  sweeps_.erase({watch.sweep_at, watch.id});
  watch.sweep_at = at;
  if (at != core::kNever) {
    sweeps_.emplace(at, watch.id);
  }
}

}  // namespace procguard::engine
