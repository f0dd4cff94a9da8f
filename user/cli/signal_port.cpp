// SPDX-License-Identifier: Apache-2.0
#include "cli/signal_port.h"

#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <ctime>

namespace procguard::cli {
namespace {

// Faults of our own code, and limits on ourselves that the kernel enforces, keep their action.
constexpr std::array kLeftAlone = {SIGSEGV, SIGBUS,  SIGFPE,  SIGILL, SIGTRAP,
                                   SIGSYS,  SIGABRT, SIGXCPU, SIGXFSZ};

sigset_t handled_signals() {
  sigset_t set;
  ::sigfillset(&set);  // leaves out what the C library keeps for itself
  for (const int signal : kLeftAlone) {
    ::sigdelset(&set, signal);
  }
  return set;
}

bool terminal_sends(int signal) {
  switch (signal) {
    case SIGINT:
    case SIGQUIT:
    case SIGHUP:
    case SIGWINCH:
    case SIGCONT:
      return true;
    default:
      return is_job_stop(signal);
  }
}

}  // namespace

bool is_job_stop(int signal) {
  return signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU;
}

bool must_forward(const Received& received, bool to_group) {
  if (received.signal == SIGCHLD || to_group) {
    return false;
  }
  return !(received.from_kernel && terminal_sends(received.signal));
}

Result<SignalPort> SignalPort::open() {
  SignalPort port;
  sigset_t handled = handled_signals();
  if (::sigprocmask(SIG_BLOCK, &handled, &port.original_mask_) != 0) {
    return Error::system("sigprocmask", errno);
  }
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  if (::sigaction(SIGCHLD, &standard, &port.original_on_child_exit_) != 0) {
    return Error::system("sigaction(SIGCHLD)", errno);
  }
  // Blocked, so that a write to a closed pipe is an error and no death; nobody wants to read it.
  ::sigdelset(&handled, SIGPIPE);
  port.fd_.reset(::signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!port.fd_) {
    return Error::system("signalfd", errno);
  }
  return port;
}

std::vector<Received> SignalPort::take() {
  std::vector<Received> result;
  signalfd_siginfo info;
  while (::read(fd_.get(), &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info))) {
    result.push_back({.signal = static_cast<int>(info.ssi_signo),
                      .from_kernel = info.ssi_code > 0,
                      .sender = static_cast<pid_t>(info.ssi_pid)});
  }
  return result;
}

bool SignalPort::stop_self(int signal) {
  sigset_t only;
  ::sigemptyset(&only);
  ::sigaddset(&only, signal);
  sigset_t before;
  ::raise(signal);  // pending until it is unblocked
  ::sigprocmask(SIG_UNBLOCK, &only, &before);
  // Here we stand still, if we do.
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  // What continued us is pending and said what it had to say.
  sigset_t cont;
  ::sigemptyset(&cont);
  ::sigaddset(&cont, SIGCONT);
  const timespec at_once{};
  return ::sigtimedwait(&cont, nullptr, &at_once) == SIGCONT;
}

}  // namespace procguard::cli
