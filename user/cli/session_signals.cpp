// SPDX-License-Identifier: Apache-2.0
// Signals of a session: what is passed on, and what the kernel says about children.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "cli/calm.h"
#include "cli/session.h"
#include "core/signals.h"

namespace procguard::cli {
namespace {

std::uint64_t microseconds(const timeval& time) {
  return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000 +
         static_cast<std::uint64_t>(time.tv_usec);
}

}  // namespace

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
  guarding_->command_ended();
  record_.ended_by_forwarded = end.signal != 0 && end.signal == forwarded_;
  record_.leftovers = living_members();
}

}  // namespace procguard::cli
