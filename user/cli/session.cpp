// SPDX-License-Identifier: Apache-2.0
#include "cli/session.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "cli/calm.h"
#include "core/guard.h"
#include "core/signals.h"
#include "sys/files.h"
#include "sys/pidfd.h"

namespace procguard::cli {
namespace {

// A timeout's threads are looked at this long before it is due, so that looking makes no signal
// late; the timeout must be long enough for the look to mean something.
constexpr core::Ns kLookAhead = 5 * core::kMillisecond;
constexpr core::Ns kShortestLookedAt = 50 * core::kMillisecond;
// Leftovers that cannot be killed (asleep in the kernel, another user's) are given up after this.
constexpr core::Ns kSweepPatience = 5 * core::kSecond;
constexpr core::Ns kSweepWait = 5 * core::kMillisecond;

std::uint64_t microseconds(const timeval& time) {
  return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000 +
         static_cast<std::uint64_t>(time.tv_usec);
}

}  // namespace

void Session::LookingSignaler::look() {
  const pg_guard* guard = session_.controller_->find(session_.guard_);
  if (guard != nullptr && guard->step_result == PG_RESULT_INTENT) {
    session_.recorder_.look_before_signal(*guard);
  }
}

Result<void> Session::LookingSignaler::send(int pidfd, int signal) {
  look();
  return real_.send(pidfd, signal);
}

Result<void> Session::LookingSignaler::send_thread(pid_t pid, pid_t tid, int signal) {
  look();
  return real_.send_thread(pid, tid, signal);
}

Result<void> Session::LookingSignaler::kill_cgroup(const std::string& path) {
  look();
  return real_.kill_cgroup(path);
}

Session::Session(const RunOptions& options, Messages& messages)
    : options_(options),
      messages_(messages),
      signaler_(*this),
      recorder_(options, messages, clock_, record_) {
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
}

void Session::on_signals() {
  const std::vector<Received> all = signals_->take();
  bool children = false;
  std::uint64_t to_group = 0;
  bool asked = false;
  for (const Received& received : all) {
    if (received.signal == SIGCHLD) {
      children = true;
      continue;
    }
    if (!asked && witness_) {
      to_group = witness_->take();
      asked = true;
    }
    const std::uint64_t bit = 1ULL << (received.signal - 1);
    on_signal(received, (to_group & bit) != 0);
  }
  if (children) {
    reap();
  }
}

void Session::on_signal(const Received& received, bool to_group) {
  const int signal = received.signal;
  if (command_ended_) {
    // Only members that outlive the command are being waited for: whoever wants procguard to end
    // gets that.
    give_up_waiting_ = give_up_waiting_ || signal == SIGTERM || signal == SIGINT ||
                       signal == SIGHUP || signal == SIGQUIT;
    return;
  }
  if (must_forward(received, to_group)) {
    forward(signal);
  }
  if (!is_job_stop(signal) || terminal_.leads()) {
    return;  // a command that leads the terminal stops by itself, and we with it: on_stopped()
  }
  if (signals_->stop_self(signal)) {
    const std::uint64_t cont = 1ULL << (SIGCONT - 1);
    if (!witness_ || (witness_->take() & cont) == 0) {
      forward(SIGCONT);
    }
  }
}

void Session::forward(int signal) {
  forwarded_ = signal;
  child_->send(signal);
  if (options_.verbose) {
    messages_.note(record_.name + ": " + core::signal_full_name(signal) + " forwarded");
  }
}

// All that ended, not the command alone: a subreaper, and PID 1 of a container, is the parent of
// every orphan.
void Session::reap() {
  const Calm calm;
  int status = 0;
  rusage used{};
  pid_t pid = 0;
  while ((pid = ::wait4(-1, &status, WNOHANG | (terminal_.leads() ? WUNTRACED : 0), &used)) > 0) {
    if (pid != child_->pid()) {
      continue;
    }
    if (WIFSTOPPED(status)) {
      on_stopped(WSTOPSIG(status));
    } else {
      on_ended(status, (microseconds(used.ru_utime) + microseconds(used.ru_stime)) * 1000,
               static_cast<std::uint64_t>(used.ru_maxrss) * 1024);
    }
  }
}

// The command leads the terminal and was stopped: so is the whole job, as the shell that started
// us sees it.
void Session::on_stopped(int signal) {
  terminal_.take_back();
  if (signal == SIGTSTP) {
    ::kill(0, SIGTSTP);  // the rest of a pipeline; for us it is pending with the next one
  }
  const bool stopped = signals_->stop_self(SIGTSTP);
  if (!stopped && signal != SIGTSTP) {
    return;  // nobody can continue us; continued, the command would only stop again
  }
  terminal_.give(child_->pid());
  ::kill(-child_->pid(), SIGCONT);
}

void Session::on_ended(int status, std::uint64_t cpu_ns, std::uint64_t max_rss_bytes) {
  record_.ended_ns = clock_.now();
  command_ended_ = true;
  on_exec();
  terminal_.take_back();
  CommandEnd& end = record_.ending.command;
  if (WIFSIGNALED(status)) {
    end.signal = WTERMSIG(status);
  } else {
    end.exit_code = WEXITSTATUS(status);
  }
  record_.command_ran = record_.ending.exec_error == 0 && record_.started_ns != 0;
  record_.command_cpu_ns = cpu_ns;
  record_.command_max_rss_bytes = max_rss_bytes;
  // What the kernel did to it comes before the news of its end.
  controller_->on_source();
  controller_->target_gone(guard_);
  record_.ended_by_guard = end.signal != 0 && recorder_.has_sent(child_->pid(), end.signal);
  record_.ended_by_forwarded = end.signal != 0 && end.signal == forwarded_;
  record_.leftovers = living_members();
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
    const pg_guard* guard = controller_->find(guard_);
    auto alive = executor_->sweep(*controller_->target(guard_), guard->watch);
    const bool over = !alive || alive.value() == 0 || now >= sweep_until_;
    give_up_waiting_ = give_up_waiting_ || over;
    sweep_at_ = over ? core::kNever : now + kSweepWait;
  }
  controller_->on_time();
}

// Is there anything left to wait for?
void Session::consider_end() {
  if (!command_ended_ || done_ || controller_->busy()) {
    return;
  }
  if (guard_ == 0 || give_up_waiting_ || living_members() == 0) {
    done_ = true;
    return;
  }
  if (ladder_goes_on() || sweep_at_ != core::kNever) {
    return;
  }
  switch (options_.leftovers) {
    case Leftovers::kLeave:
      done_ = true;
      return;
    case Leftovers::kWait:
      return;
    case Leftovers::kKill:
      kill_leftovers();
      return;
  }
}

// A limit tripped and its later steps are still to come: members that live on get them.
bool Session::ladder_goes_on() const {
  const pg_guard* guard = controller_->find(guard_);
  return guard->phase == PG_GUARD_ARMED && !options_.dry_run() &&
         std::any_of(std::begin(guard->limit), std::end(guard->limit),
                     [](const pg_limit& limit) { return limit.phase == PG_LIMIT_TRIPPED; });
}

std::uint64_t Session::living_members() {
  if (guard_ == 0 || options_.guard.scope == PG_SCOPE_PROCESS) {
    return 0;
  }
  auto levels = controller_->levels(guard_);
  return levels && !levels->empty ? levels->processes : 0;
}

void Session::kill_leftovers() {
  const pg_guard* guard = controller_->find(guard_);
  const core::TakeStep kill{.resource = PG_TIMEOUT,
                            .index = 0,
                            .step = {.action = PG_ACTION_SIGNAL, .signal = SIGKILL, .wait_ns = 0},
                            .due_ns = clock_.now(),
                            .last = true,
                            .kernel_pid = 0};
  executor_->take(*controller_->target(guard_), guard->watch, kill);
  sweep_at_ = clock_.now() + kSweepWait;
  sweep_until_ = clock_.now() + kSweepPatience;
}

void Session::finish() {
  if (record_.ended_ns == 0) {
    record_.ended_ns = clock_.now();
  }
  if (record_.started_ns == 0) {
    record_.started_ns = record_.ended_ns;
  }
  if (guard_ == 0) {
    return;
  }
  if (auto levels = controller_->levels(guard_)) {
    record_.levels = levels.value();
    record_.degraded = record_.degraded || levels->degraded;
  }
  if (auto usage = controller_->usage(guard_)) {
    record_.usage = usage->total;
  }
  controller_->release(guard_);
}

}  // namespace procguard::cli
