// SPDX-License-Identifier: Apache-2.0
// While no agent can be asked: it is looked for, and the next one goes on with the guard.
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <thread>
#include <utility>

#include "cli/agent_guarding.h"
#include "cli/poll_fd.h"
#include "sys/pidfd.h"

namespace procguard::cli {
namespace {

constexpr core::Ns kFirstLook = 100 * core::kMillisecond;
constexpr core::Ns kLookAgain = core::kSecond;
// An agent that is stuck must not keep us from signals and the command's end.
constexpr core::Ns kLookPatience = 300 * core::kMillisecond;
constexpr core::Ns kNewsPatience = 100 * core::kMillisecond;
// How long the session of a command that has ended stays for an agent that is away: one that is
// started anew is back by then. A ladder that goes on deserves more.
constexpr core::Ns kStays = 2 * core::kSecond;
constexpr core::Ns kStaysForLadder = 10 * core::kSecond;

bool is_empty(const sys::Cgroup& cgroup) {
  const auto populated = cgroup.populated();
  return populated && !populated.value();
}

}  // namespace

core::Ns AgentGuarding::patience() const {
  const bool ladder =
      state_.mode != PG_MODE_MONITOR &&
      std::any_of(std::begin(state_.limit), std::end(state_.limit),
                  [](const pg_limit& limit) { return limit.phase == PG_LIMIT_TRIPPED; });
  return ladder && last_heard().processes != 0 ? kStaysForLadder : kStays;
}

// As far as that tells who lives now.
engine::Levels AgentGuarding::last_heard() const {
  engine::Levels levels = levels_;
  if (subject_.cgroup != nullptr && is_empty(*subject_.cgroup)) {
    levels.processes = 0;
  } else if (ended_ && with_command_ && levels.processes != 0) {
    --levels.processes;
  }
  levels.empty = levels.processes == 0;
  return levels;
}

Reach AgentGuarding::reach() const {
  if (!away()) {
    return Reach::kThere;
  }
  const core::Ns since = std::max(lost_ns_, ended_ns_);
  return host_.clock.now() < since + patience() ? Reach::kAwaited : Reach::kAway;
}

void AgentGuarding::lose() {
  if (!ask_ && !events_) {
    return;
  }
  if (loop_ != nullptr && events_) {
    loop_->remove(events_->fd());
  }
  ask_.reset();
  std::optional<GuardLink> told = std::exchange(events_, std::nullopt);
  sweep_at_ = core::kNever;
  // What it has told before it went is still there to be read.
  while (told && readable(told->fd(), 0)) {
    const auto bodies = told->events();
    if (!bodies) {
      break;
    }
    tell(bodies.value());
  }
  if (!released_ && state_.id != 0 && state_.phase != PG_GUARD_ENDED) {
    lost_ns_ = host_.clock.now();
    retry_wait_ = kFirstLook;
    retry_at_ = lost_ns_ + retry_wait_;
  }
  if (away() && executed_ns_ != 0 && !ended_) {
    say_gone();
  }
}

void AgentGuarding::say_gone() {
  said_gone_ = true;
  host_.messages.note(guard_name(state_) +
                      ": the agent has gone; the command runs on, and its guard waits for the next "
                      "agent");
}

void AgentGuarding::look_for_agent() {
  const core::Ns began = host_.clock.now();
  const bool back = reconnect().ok();
  const core::Ns now = host_.clock.now();
  if (back || !away()) {
    return;
  }
  if (now - began >= kLookPatience) {
    retry_wait_ = kLookAgain;
  } else {
    retry_wait_ = ended_ ? kFirstLook : std::min(2 * retry_wait_, kLookAgain);
  }
  retry_at_ = now + retry_wait_;
}

Result<void> AgentGuarding::reconnect() {
  auto ask = GuardLink::connect(socket_, kLookPatience);
  if (!ask) {
    return ask.error();
  }
  auto events = GuardLink::connect(socket_, kLookPatience);
  if (!events) {
    return events.error();
  }
  if (auto taken = take_up_again(ask.value()); !taken) {
    return taken;
  }
  const auto missed = events->follow(state_.id, heard_seq_);
  if (!missed) {
    return missed.error();
  }
  for (const GuardLink* link : {&ask.value(), &events.value()}) {
    if (auto set = link->wait_at_most(GuardLink::kPatience); !set) {
      return set;
    }
  }
  ask_ = std::move(ask).value();
  events_ = std::move(events).value();
  retry_at_ = core::kNever;
  if (std::exchange(said_gone_, false)) {
    host_.messages.note(guard_name(state_) + ": an agent is back and goes on with the guard");
  }
  send_progress();
  tell(missed.value());
  hear_all(kNewsPatience);
  if (events_ && loop_ != nullptr && !watch_fds(*loop_)) {
    lose();
  }
  return {};
}

void AgentGuarding::send_progress() {
  if (progress_waits_) {
    progress();
  }
}

// Numbers begin anew where the guards were torn down: this one may be somebody else's.
bool AgentGuarding::is_ours(const pg_guard& guard) const {
  return guard.scope == state_.scope && guard.pid == state_.pid &&
         guard.target_start_ns == state_.target_start_ns && guard.cgroup_id == state_.cgroup_id;
}

// Does this agent, which may be another one, know the guard?
Result<void> AgentGuarding::take_up_again(GuardLink& ask) {
  const auto status = ask.status();
  if (!status) {
    return status.error();
  }
  if (status->started_ns != agent_started_ns_) {
    agent_started_ns_ = status->started_ns;
    heard_seq_ = 0;  // it numbers anew
  }
  const auto shown = ask.show(state_.id);
  if (!shown && shown.error().code() != ESRCH && shown.error().code() != EPERM) {
    return shown.error();
  }
  if (!shown || !is_ours(shown->about.row.guard)) {
    give_up();
    return Error("the agent does not know the guard", ESRCH);
  }
  // An agent that has taken us for dead has started it.
  started_ = started_ || shown->about.row.guard.armed_ns != 0;
  if (!started_ && executed_ns_ != 0) {
    const auto started = ask.start(state_.id, executed_ns_);
    started_ = started.ok();
    if (ask.lost()) {
      return started.error();
    }
  }
  return {};
}

// The guard is over. Of a command that has ended by now that is no news.
void AgentGuarding::give_up() {
  retry_at_ = core::kNever;
  state_.phase = PG_GUARD_RELEASED;
  const auto exited = sys::has_exited(subject_.pidfd);
  if (!ended_ && !(exited && exited.value())) {
    host_.messages.error(guard_name(state_) +
                         ": an agent is back and does not know the guard; the command runs on "
                         "unguarded");
  }
}

// A guard that is left behind would surprise whoever the next agent makes it act on.
void AgentGuarding::release() {
  while (connected() || away()) {
    if (connected() && (took(ask_->release(state_.id)) || connected())) {
      break;  // or it was over
    }
    if (reach() == Reach::kAway) {
      host_.messages.note(guard_name(state_) +
                          ": no agent is there to release the guard: it stays "
                          "with the next one (procguard release " +
                          guard_number(state_.id) + ")");
      break;
    }
    const core::Ns now = host_.clock.now();
    std::this_thread::sleep_for(std::chrono::nanoseconds(core::saturating_sub(retry_at_, now)));
    look_for_agent();
  }
  released_ = true;
  retry_at_ = core::kNever;
}

}  // namespace procguard::cli
