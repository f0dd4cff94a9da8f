// SPDX-License-Identifier: Apache-2.0
#include "tests/support/signals.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>

namespace procguard::test {
namespace {

// Before main(): a child that is forked and signalled at once must not have to get there first. Not
// those with handlers: sanitizers have some by now.
const bool g_none_ignored = [] {
  for (int signal = 1; signal < SIGRTMIN; ++signal) {
    struct sigaction now {};
    if (::sigaction(signal, nullptr, &now) == 0 && now.sa_handler == SIG_IGN) {
      ::signal(signal, SIG_DFL);
    }
  }
  return true;
}();

}  // namespace

// By the system call: the C library does not let its own two signals be set back.
void reset_signals() {
  struct {
    void (*handler)(int) = SIG_DFL;
    unsigned long flags = 0;
    void (*restorer)() = nullptr;
    std::uint64_t mask = 0;
  } action;
  for (int signal = 1; signal <= SIGRTMAX; ++signal) {
    ::syscall(SYS_rt_sigaction, signal, &action, nullptr,
              sizeof(action.mask));  // fails for KILL, STOP
  }
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

}  // namespace procguard::test
