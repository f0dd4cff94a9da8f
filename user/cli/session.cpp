// SPDX-License-Identifier: Apache-2.0
#include "cli/session.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "core/guard.h"
#include "sys/files.h"
#include "sys/pidfd.h"
#include "sys/procfs.h"

namespace procguard::cli {
namespace {

// A timeout's threads are looked at this long before it is due, so that looking makes no signal
// late; the timeout must be long enough for the look to mean something.
constexpr core::Ns kLookAhead = 5 * core::kMillisecond;
constexpr core::Ns kShortestLookedAt = 50 * core::kMillisecond;

}  // namespace

Session::Session(const RunOptions& options, Messages& messages)
    : options_(options),
      messages_(messages),
      recorder_(options, messages, clock_, departures_, record_) {
  record_.name = options.guard.name.empty() ? "g1" : options.guard.name;
}

RunRecord Session::run() {
  auto begun = prepare();
  if (begun) {
    begun = start();
  }
  if (begun) {
    loop();
  } else {
    fail(begun.error());
    wait_without_loop();
  }
  finish();
  terminal_.take_back();
  return std::move(record_);
}

void Session::fail(const Error& error) {
  messages_.error(error.message());
  record_.failure = record_.failure.empty() ? error.message() : record_.failure;
  record_.ending.failed = true;
  if (child_ && !command_ended_) {
    child_->send(SIGKILL);  // unguarded it must not run
  }
}

void Session::loop() {
  while (!done_) {
    auto ran = loop_->set_timer(next_wake());
    if (ran) {
      ran = loop_->run_once();
    }
    if (!ran) {
      fail(ran.error());
      wait_without_loop();
      return;
    }
    consider_end();
  }
}

// For a command that was killed because procguard failed.
void Session::wait_without_loop() {
  if (child_ && !command_ended_) {
    while (::waitpid(child_->pid(), nullptr, 0) < 0 && errno == EINTR) {
    }
    command_ended_ = true;
  }
}

// The command has completed its exec, or could not, or has died before.
void Session::on_exec() {
  if (exec_known_) {
    return;
  }
  const auto error = child_->exec_error();
  if (!error) {
    return;
  }
  exec_known_ = true;
  loop_->remove(child_->exec_fd());
  if (record_.ending.failed) {
    return;
  }
  if (*error != 0) {
    record_.ending.exec_error = *error;
    record_.failure =
        "failed to run command '" + options_.command[0] + "': " + std::strerror(*error);
    messages_.error(record_.failure);
    return;
  }
  if (auto text = sys::read_file("/proc/" + std::to_string(child_->pid()) + "/comm")) {
    record_.comm = text->substr(0, text->find('\n'));
  }
  auto started = guarding_->start();
  if (!started) {
    auto gone = sys::has_exited(child_->pidfd());
    if (!gone || !gone.value()) {
      fail(started.error().in("starting the guard"));
    }
  }
  const pg_guard& guard = guarding_->guard();
  record_.started_ns = guard.armed_ns != 0 ? guard.armed_ns : clock_.now();
  record_.process_start_ns = guard.target_start_ns;
  if (auto stat = sys::ProcRoot().stat(child_->pid()); stat && record_.process_start_ns == 0) {
    record_.process_start_ns =
        stat->start_ticks * (core::kSecond / static_cast<core::Ns>(::sysconf(_SC_CLK_TCK)));
  }
}

core::Ns Session::next_wake() {
  return std::min(guarding_->next_due(), next_look());
}

// When the threads are to be looked at, ahead of a timeout that is about to be due.
core::Ns Session::next_look() const {
  const pg_guard& guard = guarding_->guard();
  if (guard.phase != PG_GUARD_ARMED || record_.trip) {
    return core::kNever;
  }
  const pg_limit& timeout = guard.limit[PG_TIMEOUT];
  const bool waits = timeout.phase == PG_LIMIT_WAITING && timeout.due_ns > looked_ahead_of_;
  return waits && timeout.limit >= kShortestLookedAt ? timeout.due_ns - kLookAhead : core::kNever;
}

void Session::on_time() {
  if (next_look() <= clock_.now()) {
    looked_ahead_of_ = guarding_->guard().limit[PG_TIMEOUT].due_ns;
    recorder_.look();
  }
  guarding_->on_time();
}

void Session::on_notify() {
  const auto is_member = [this](pid_t pid, uid_t uid) { return guarding_->is_member(pid, uid); };
  if (notify_->take(is_member)) {
    guarding_->progress();
  }
}

}  // namespace procguard::cli
