// SPDX-License-Identifier: Apache-2.0
// What the agent tells of the guard, as the recorder wants to hear it.
#include <algorithm>
#include <csignal>
#include <utility>

#include "cli/agent_guarding.h"
#include "cli/poll_fd.h"
#include "core/guard.h"
#include "sys/namespaces.h"

namespace procguard::cli {
namespace {

// Members that a KILL cannot end (asleep in the kernel) are given up after this.
constexpr core::Ns kSweepPatience = 5 * core::kSecond;

}  // namespace

void AgentGuarding::on_events() {
  auto bodies = events_->events();
  if (!bodies) {
    lose();
    return;
  }
  tell(bodies.value());
}

// The guard's state knows of a step that no event has told of.
bool AgentGuarding::step_is_missing() const {
  return state_.step_result > PG_RESULT_INTENT && state_.step_at_ns > heard_step_ns_;
}

// All there are, and those that must come because the guard's state says so.
void AgentGuarding::read_events(core::Ns until) {
  while (events_) {
    const core::Ns patience =
        step_is_missing() ? core::saturating_sub(until, host_.clock.now()) : 0;
    if (!readable(events_->fd(), patience)) {
      return;
    }
    on_events();
  }
}

// What the agent knows by now. It tells of its own steps; of those of the agent before it nobody
// may be left to tell, and the guard's state has to do.
void AgentGuarding::hear_all(core::Ns patience) {
  refresh();
  if (connected()) {
    read_events(host_.clock.now() + patience);
    tell_missing_steps();
  }
}

void AgentGuarding::tell_missing_steps() {
  if (!step_is_missing() || state_.step_resource >= PG_RESOURCES || state_.step_index >= PG_STEPS) {
    return;
  }
  const auto step = [this](std::uint32_t resource, std::uint32_t index, core::Ns at,
                           std::uint32_t result) {
    proto::EventBody body;
    body.event = core::make_event(state_, PG_EVENT_STEP, resource, at);
    body.event.observed = state_.limit[resource].observed;
    body.event.due_ns = at;
    body.event.step = index;
    body.event.action = state_.ladder[index].action;
    body.event.signal = state_.ladder[index].signal;
    body.event.result = result;
    body.base = state_.limit[resource].base;
    body.over_since_ns = state_.limit[resource].over_since_ns;
    return body;
  };
  std::vector<proto::EventBody> steps;
  for (std::uint32_t r = 0; r < PG_RESOURCES; ++r) {
    const bool last = r == state_.step_resource && state_.step_index == 0;
    if (!last && state_.limit[r].tripped_ns > heard_step_ns_) {
      const bool dry = state_.mode == PG_MODE_MONITOR;
      steps.push_back(
          step(r, 0, state_.limit[r].tripped_ns, dry ? PG_RESULT_DRY_RUN : PG_RESULT_UNKNOWN));
    }
  }
  steps.push_back(
      step(state_.step_resource, state_.step_index, state_.step_at_ns, state_.step_result));
  steps.back().event.by = state_.step_by;
  if (state_.step_result == PG_RESULT_SENT) {
    steps.back().reached = 1;  // at least, and as far as is known
    steps.back().reached_pids[0] = pid_there_;
  }
  tell(steps);
}

// One after the other: what is told may make the recorder ask, and that bring further news.
void AgentGuarding::tell(const std::vector<proto::EventBody>& bodies) {
  untold_.insert(untold_.end(), bodies.begin(), bodies.end());
  if (std::exchange(telling_, true)) {
    return;
  }
  for (std::size_t i = 0; i < untold_.size(); ++i) {
    on_event(proto::EventBody(untold_[i]));  // a copy: there may be more by then
  }
  untold_.clear();
  telling_ = false;
}

// Its number in our pid namespace; 0: we cannot tell.
pid_t AgentGuarding::here(std::uint32_t pid) const {
  if (pid != 0 && pid == pid_there_) {
    return subject_.pid;
  }
  return sys::in_host_pid_namespace() ? static_cast<pid_t>(pid) : 0;
}

engine::Outcome AgentGuarding::outcome_of(const proto::EventBody& body) const {
  engine::Outcome outcome;
  outcome.result = static_cast<pg_result>(body.event.result);
  outcome.error = static_cast<int>(body.event.error);
  const auto add = [this](std::vector<pid_t>& pids, const std::uint32_t* listed,
                          std::uint32_t count) {
    for (std::uint32_t i = 0; i < std::min(count, proto::kReachedPids); ++i) {
      if (const pid_t pid = here(listed[i]); pid != 0) {
        pids.push_back(pid);
      }
    }
  };
  add(outcome.reached, body.reached_pids, body.reached);
  add(outcome.refused, body.refused_pids, body.refused);
  // Not all are listed. The command is a member like the others: it was reached unless refused.
  const bool refused = std::count(outcome.refused.begin(), outcome.refused.end(), subject_.pid) > 0;
  if (body.reached > proto::kReachedPids && body.refused <= proto::kReachedPids && !refused) {
    outcome.reached.push_back(subject_.pid);
  }
  outcome.others_reached = body.reached > outcome.reached.size();
  return outcome;
}

void AgentGuarding::on_event(const proto::EventBody& body) {
  if (body.event.guard != state_.id || body.event.kind == PG_EVENT_LOST) {
    return;
  }
  heard_seq_ = std::max(heard_seq_, body.seq);
  pg_event event = body.event;
  event.pid = static_cast<__u32>(here(event.pid));
  pg_guard guard = state_;
  if (event.resource < PG_RESOURCES) {
    guard.limit[event.resource].base = body.base;
    guard.limit[event.resource].over_since_ns = body.over_since_ns;
  }
  if (event.kind == PG_EVENT_STEP) {
    const engine::Outcome outcome = outcome_of(body);
    note_step(body, outcome);
    host_.recorder.on_event(guard, event, &outcome);
    return;
  }
  if (event.kind == PG_EVENT_TARGET_EXITED) {
    state_.phase = PG_GUARD_ENDED;
  }
  if (event.kind == PG_EVENT_RELEASED && state_.phase != PG_GUARD_ENDED && !released_ && !ended_) {
    state_.phase = PG_GUARD_RELEASED;
    host_.messages.note(guard_name(state_) +
                        ": the guard was released; the command runs on unguarded");
  }
  host_.recorder.on_event(guard, event, nullptr);
}

void AgentGuarding::note_step(const proto::EventBody& body, const engine::Outcome& outcome) {
  const pg_event& event = body.event;
  heard_step_ns_ = std::max<core::Ns>(heard_step_ns_, event.at_ns);
  if (event.result == PG_RESULT_DRY_RUN) {
    return;
  }
  if (event.by != PG_BY_KERNEL) {  // of those the recorder takes care
    for (const pid_t pid : outcome.reached) {
      host_.departures.hold_process(pid);
    }
  }
  const pg_scope scope = host_.options.guard.scope;
  if (event.signal == SIGKILL && (scope == PG_SCOPE_TREE || scope == PG_SCOPE_CGROUP)) {
    sweep_at_ = host_.clock.now();
    sweep_until_ = sweep_at_ + kSweepPatience;
  }
}

}  // namespace procguard::cli
