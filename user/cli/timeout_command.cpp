// SPDX-License-Identifier: Apache-2.0
// No signal handlers: what concerns this process stays blocked and is taken one by one with
// sigwaitinfo, so the only place where signals are sent is between two looks at the child, and it
// is not reaped until the second look.
#include "cli/timeout_command.h"

#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>

#include "core/signals.h"

namespace procguard::cli {
namespace {

constexpr uint64_t kNsPerSecond = 1'000'000'000;
constexpr uint64_t kNsPerUs = 1000;

// End a process by default, the real-time signals apart. All are passed on to the command.
constexpr std::array kEndingSignals{
    SIGHUP,  SIGINT,  SIGQUIT, SIGILL,    SIGTRAP, SIGABRT,   SIGBUS,  SIGFPE,
    SIGUSR1, SIGSEGV, SIGUSR2, SIGPIPE,   SIGALRM, SIGTERM,   SIGXCPU, SIGXFSZ,
    SIGSYS,  SIGPROF, SIGPOLL, SIGVTALRM, SIGPWR,  SIGSTKFLT,
};

void set_action(int signal, sighandler_t action) {
  if (signal > 0) {
    ::signal(signal, action);  // fails for KILL and STOP, which is as well
  }
}

bool is_ignored(int signal) {
  struct sigaction action {};
  return ::sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

// The SIGPIPE of a message that nobody reads is not for the command.
void drop_broken_pipe() {
  sigset_t pipe;
  ::sigemptyset(&pipe);
  ::sigaddset(&pipe, SIGPIPE);
  const timespec at_once{};
  ::sigtimedwait(&pipe, nullptr, &at_once);
}

}  // namespace

// What is awaited: all that would end this process and was not ignored when it was started (as
// nohup and background jobs do), the timer, the user's signal, and the end of the child.
void TimeoutCommand::take_signals() {
  // The timer and the end of the child must get through whatever the caller blocked or ignored.
  // The command gets these two as they are needed here: unblocked, with the default action.
  sigset_t always;
  ::sigemptyset(&always);
  ::sigaddset(&always, SIGALRM);
  ::sigaddset(&always, SIGCHLD);
  ::sigprocmask(SIG_UNBLOCK, &always, nullptr);
  ::sigprocmask(SIG_BLOCK, nullptr, &inherited_);

  ::sigemptyset(&awaited_);
  for (int signal : kEndingSignals) {
    if (!is_ignored(signal)) {
      ::sigaddset(&awaited_, signal);
    }
  }
  for (int signal = SIGRTMIN; signal <= SIGRTMAX; ++signal) {
    if (!is_ignored(signal)) {
      ::sigaddset(&awaited_, signal);
    }
  }
  ::sigaddset(&awaited_, SIGALRM);
  ::sigaddset(&awaited_, SIGCHLD);
  set_action(SIGALRM, SIG_DFL);
  set_action(SIGCHLD, SIG_DFL);  // ignored, it would reap the child before it could be waited for
  if (signal_ > 0) {
    ::sigaddset(&awaited_, signal_);
    set_action(signal_, SIG_DFL);
  }
  // A job in the background whose command wants the terminal: the command stops, but this process
  // must go on to time it out.
  for (int signal : {SIGTTIN, SIGTTOU}) {
    ::sigdelset(&awaited_, signal);
    set_action(signal, SIG_IGN);
  }
  ::sigprocmask(SIG_BLOCK, &awaited_, nullptr);
  // What the caller had blocked is not acted on.
  for (int signal = 1; signal <= SIGRTMAX; ++signal) {
    if (::sigismember(&inherited_, signal) == 1) {
      ::sigdelset(&awaited_, signal);
    }
  }
}

void TimeoutCommand::become_command(pid_t parent) {
  // If this process is killed, nobody would end the command any more.
  ::prctl(PR_SET_PDEATHSIG, options_.signal);
  if (::getppid() != parent) {
    ::_exit(kTimeoutFailed);  // it was killed before that took effect
  }
  set_action(SIGTTIN, SIG_DFL);
  set_action(SIGTTOU, SIG_DFL);
  ::sigprocmask(SIG_SETMASK, &inherited_, nullptr);
  ::execvp(options_.command[0], options_.command);
  const int error = errno;
  messages_.say("failed to run command " + quote_for_message(options_.command[0]), error);
  const int status = error == ENOENT ? kTimeoutNotFound : kTimeoutCannotInvoke;
  ::_exit(messages_.failed() ? kTimeoutFailed : status);
}

int TimeoutCommand::run() {
  if (!options_.foreground) {
    // A group of our own, which the command's children inherit: kill(0) then reaches all of them.
    // Fails for the leader of a session, which already has one.
    ::setpgid(0, 0);
  }
  take_signals();
  const pid_t self = ::getpid();
  // Not vfork or posix_spawn, which would stand still until exec: a command on a dead mount is to
  // be timed out like any other.
  child_ = ::fork();
  if (child_ == 0) {
    become_command(self);
  }
  if (child_ < 0) {
    messages_.say("fork system call failed", errno);
    return kTimeoutFailed;
  }
  return wait_for_command();
}

int TimeoutCommand::wait_for_command() {
  kill_armed_ = options_.kill_after_ns > 0;
  if (options_.duration_ns > 0) {
    start_timer(options_.duration_ns, true);
  }
  int status = 0;
  pid_t reaped = 0;
  while ((reaped = ::waitpid(child_, &status, WNOHANG)) == 0) {
    const int signal = ::sigwaitinfo(&awaited_, nullptr);
    if (signal > 0 && signal != SIGCHLD) {
      on_signal(signal);
    }
  }
  if (reaped < 0) {
    messages_.say("error waiting for command", errno);
    return kTimeoutFailed;
  }
  return exit_status(status);
}

void TimeoutCommand::on_signal(int signal) {
  if (signal == SIGALRM) {
    timed_out_ = true;
    signal = signal_;
  }
  if (kill_armed_) {
    // From the first signal on, whoever sent it. A timer that still runs sends KILL as well then.
    kill_armed_ = false;
    signal_ = SIGKILL;
    start_timer(options_.kill_after_ns, false);
  }
  send(signal);
}

void TimeoutCommand::send(int signal) {
  if (options_.verbose) {
    const std::string name = signal == 0 ? "0" : core::signal_name(signal);
    messages_.say("sending signal " + name + " to command " +
                  quote_for_message(options_.command[0]));
    drop_broken_pipe();
  }
  // The child first: it may have a group of its own by now.
  ::kill(child_, signal);
  if (options_.foreground) {
    return;
  }
  send_to_group(signal);
  // A stopped process would not act on it; on a running one SIGCONT is lost.
  if (signal != SIGKILL && signal != SIGCONT) {
    ::kill(child_, SIGCONT);
    send_to_group(SIGCONT);
  }
}

void TimeoutCommand::send_to_group(int signal) {
  // It comes back to this process, where it is not to be passed on again. Nor is the next one of
  // its kind: the group may be a shell's or a nested timeout's that sends it in turn.
  if (signal > 0 && signal != SIGCHLD) {
    ::sigdelset(&awaited_, signal);
  }
  ::kill(0, signal);
}

// SIGALRM in `ns`. Earlier timers go on.
void TimeoutCommand::start_timer(uint64_t ns, bool warn) {
  sigevent event{};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGALRM;
  timer_t timer{};
  itimerspec in{};
  in.it_value.tv_sec = static_cast<time_t>(ns / kNsPerSecond);
  in.it_value.tv_nsec = static_cast<long>(ns % kNsPerSecond);
  if (::timer_create(CLOCK_MONOTONIC, &event, &timer) == 0 &&
      ::timer_settime(timer, 0, &in, nullptr) == 0) {
    return;
  }
  if (warn) {
    messages_.say("warning: timer_create", errno);
  }
  // RLIMIT_SIGPENDING is used up: the old timer needs none of it. Rounds up as well.
  itimerval old{};
  old.it_value.tv_sec = in.it_value.tv_sec;
  old.it_value.tv_usec = static_cast<suseconds_t>(
      (static_cast<uint64_t>(in.it_value.tv_nsec) + kNsPerUs - 1) / kNsPerUs);
  if (old.it_value.tv_usec == static_cast<suseconds_t>(kNsPerSecond / kNsPerUs)) {
    ++old.it_value.tv_sec;
    old.it_value.tv_usec = 0;
  }
  ::setitimer(ITIMER_REAL, &old, nullptr);
}

int TimeoutCommand::exit_status(int wait_status) {
  bool preserve = options_.preserve_status;
  int status = WEXITSTATUS(wait_status);
  if (WIFSIGNALED(wait_status)) {
    const int signal = WTERMSIG(wait_status);
    if (WCOREDUMP(wait_status)) {
      messages_.say("the monitored command dumped core");
    }
    // Callers see how the command ended, not only its number; without a second core dump.
    if (!timed_out_ && ::prctl(PR_SET_DUMPABLE, 0) == 0) {
      set_action(signal, SIG_DFL);
      sigset_t set;
      ::sigemptyset(&set);
      ::sigaddset(&set, signal);
      ::sigprocmask(SIG_UNBLOCK, &set, nullptr);
      ::raise(signal);
    }
    // With --foreground this process is not killed along: the status tells of the KILL.
    preserve = preserve || signal == SIGKILL;
    status = 128 + signal;
  }
  return timed_out_ && !preserve ? kTimeoutTimedOut : status;
}

}  // namespace procguard::cli
