// SPDX-License-Identifier: Apache-2.0
// The agent at work; how it begins is in agent_begin.cpp.
#include "agent/agent.h"

#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>

#include "proto/codec.h"
#include "sys/systemd.h"

namespace procguard::agent {
namespace {

// Attaching costs milliseconds: not for each of many short guards.
constexpr core::Ns kIdleFor = 10 * core::kSecond;

}  // namespace

Agent::Agent(Config config, Log& log)
    : config_(std::move(config)), log_(log), targets_(::getpid()) {}

Result<void> Agent::run() {
  sys::notify_manager("READY=1\nSTATUS=guarding " + std::to_string(guards_->live()));
  watchdog_every_ = sys::watchdog_ns() / 2;
  watchdog_at_ = watchdog_every_ == 0 ? core::kNever : clock_.now() + watchdog_every_;
  after_turn();
  while (!stopping_) {
    if (auto set = loop_->set_timer(next_wake()); !set) {
      return set;
    }
    if (auto ran = loop_->run_once(); !ran) {
      return ran;
    }
    after_turn();
  }
  sys::notify_manager("STOPPING=1");
  server_->stop();
  log_.note(Severity::kNotice,
            "stopped; " + std::to_string(guards_->live()) + " guards stay for the next agent");
  return {};
}

// What must not happen in the midst of something else.
void Agent::after_turn() {
  guards_->retire();
  tell_losses();
  do {
    server_->tidy();
    guards_->retire();  // of connections that were closed
  } while (server_->has_news());
  consider_idle();
}

// What the kernel could not keep or tell. Levels are read again by then; members may be missing.
void Agent::tell_losses() {
  const pg_losses& losses = source_->programs().losses();
  const std::uint64_t all =
      losses.edges + losses.processes + losses.threads + losses.memberships + losses.signals;
  if (all <= losses_told_) {
    return;
  }
  pg_event lost{};
  lost.kind = PG_EVENT_LOST;
  lost.at_ns = clock_.now();
  lost.observed = all - losses_told_;
  losses_told_ = all;
  guards_->tell(lost);
}

bool Agent::idle() const {
  return guards_->live() == 0 && sessions_->size() == 0 && !controller_->busy();
}

void Agent::consider_idle() {
  if (!idle()) {
    idle_at_ = core::kNever;
  } else if (idle_at_ == core::kNever && source_->programs().attached(kernel::Group::kLifecycle)) {
    idle_at_ = clock_.now() + kIdleFor;
  }
}

core::Ns Agent::next_wake() {
  return std::min(
      {controller_->next_due(), guards_->next_due(), idle_at_, watchdog_at_, server_->next_due()});
}

void Agent::on_time() {
  const core::Ns now = clock_.now();
  if (watchdog_at_ <= now) {
    sys::notify_manager("WATCHDOG=1");
    watchdog_at_ = now + watchdog_every_;
  }
  if (idle_at_ <= now) {
    idle_at_ = core::kNever;
    if (idle()) {  // a client may have been heard since it was looked at
      source_->detach();
    }
  }
  guards_->on_time();
  controller_->on_time();
}

void Agent::on_signal() {
  signalfd_siginfo info{};
  while (::read(signals_.get(), &info, sizeof(info)) == sizeof(info)) {
    if (info.ssi_signo == SIGHUP) {
      reload();
    } else {
      stopping_ = true;
    }
  }
}

// The ceiling, the quota; what the rest of the file says counts from the next start.
void Agent::reload() {
  sys::notify_manager("RELOADING=1\nMONOTONIC_USEC=" + std::to_string(clock_.now() / 1000));
  Config fresh = config_;
  fresh.ceiling = {};
  if (config_.file.empty()) {
    log_.note(Severity::kNotice, "reload: there is no configuration file");
  } else if (auto read = read_config(config_.file, fresh); !read) {
    log_.note(Severity::kError, "reload: " + read.error().message() + "; all stays as it was");
  } else {
    config_.ceiling = fresh.ceiling;
    log_.note(Severity::kNotice, "reloaded " + config_.file);
  }
  sys::notify_manager("READY=1");
}

proto::StatusBody Agent::status() {
  proto::StatusBody body;
  body.pid = static_cast<std::uint32_t>(::getpid());
  body.started_ns = started_ns_;
  body.guards = guards_->live();
  body.ended = guards_->ended();
  body.sessions = sessions_->size();
  body.connections = server_->size();
  body.watches = controller_->watches() + sessions_->size();
  body.watches_max = source_->programs().watches().size();
  body.events = events_.last_seq();
  body.events_lost = log_.lost();
  body.losses = source_->programs().losses();
  body.gap_ns = gap_ns_;
  body.adopted = adopted_;
  body.failsafe_sleepers = failsafe_sleepers_ ? 1 : 0;
  body.exact_sums = source_->exact_sums() ? 1 : 0;
  proto::put_text(body.version, PROCGUARD_VERSION);
  proto::put_text(body.pin_dir, config_.pin_dir);
  return body;
}

}  // namespace procguard::agent
