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

void Session::LookingSignaler::look() {
  const pg_guard* guard = session_.controller_->find(session_.guard_);
  if (guard != nullptr && guard->step_result == PG_RESULT_INTENT) {
    session_.recorder_.look_before_signal(*guard);
  }
}

Result<void> Session::LookingSignaler::send(int pidfd, int signal) {
  look();
  if (signal != SIGCONT) {
    session_.departures_.hold(pidfd);
  }
  return real_.send(pidfd, signal);
}

Result<void> Session::LookingSignaler::send_thread(pid_t pid, pid_t tid, int signal) {
  look();
  return real_.send_thread(pid, tid, signal);
}

Result<void> Session::LookingSignaler::kill_cgroup(const std::string& path, std::uint64_t id) {
  look();
  return real_.kill_cgroup(path, id);
}

Session::Session(const RunOptions& options, Messages& messages)
    : options_(options),
      messages_(messages),
      signaler_(*this),
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
  const pg_guard* guard = controller_->find(guard_);
  const core::Ns executed = source_->exec_time(guard->watch, child_->pid());
  if (auto text = sys::read_file("/proc/" + std::to_string(child_->pid()) + "/comm")) {
    record_.comm = text->substr(0, text->find('\n'));
  }
  auto started = controller_->start(guard_, executed);
  if (!started) {
    auto gone = sys::has_exited(child_->pidfd());
    if (!gone || !gone.value()) {
      fail(started.error().in("starting the guard"));
    }
  }
  guard = controller_->find(guard_);
  record_.started_ns = guard->armed_ns != 0 ? guard->armed_ns : clock_.now();
  record_.process_start_ns = guard->target_start_ns;
  if (auto stat = sys::ProcRoot().stat(child_->pid()); stat && record_.process_start_ns == 0) {
    record_.process_start_ns =
        stat->start_ticks * (core::kSecond / static_cast<core::Ns>(::sysconf(_SC_CLK_TCK)));
  }
}

core::Ns Session::next_wake() {
  return std::min({controller_->next_due(), next_look(), sweep_at_});
}

// When the threads are to be looked at, ahead of a timeout that is about to be due.
core::Ns Session::next_look() const {
  const pg_guard* guard = controller_->find(guard_);
  if (guard == nullptr || guard->phase != PG_GUARD_ARMED || record_.trip || record_.look) {
    return core::kNever;
  }
  const pg_limit& timeout = guard->limit[PG_TIMEOUT];
  const bool waits = timeout.phase == PG_LIMIT_WAITING && timeout.due_ns != 0;
  return waits && timeout.limit >= kShortestLookedAt ? timeout.due_ns - kLookAhead : core::kNever;
}

void Session::on_time() {
  const core::Ns now = clock_.now();
  if (next_look() <= now) {
    recorder_.look();
  }
  if (sweep_at_ <= now) {
    sweep_leftovers();
  }
  controller_->on_time();
}

}  // namespace procguard::cli
