// SPDX-License-Identifier: Apache-2.0
#include "client/steps.h"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "client/futex.h"
#include "client/thread.h"

namespace procguard::client {
namespace {

// To the thread, not the process: the entry is held, so the thread is alive and its tid its own.
bool send(const Entry& entry, int signal) {
  return ::syscall(SYS_tgkill, ::getpid(), entry.thread.load()->tid.load(), signal) == 0;
}

void do_nothing(int) {}

bool is_ours(int signal) {
  struct sigaction now {};
  return ::sigaction(signal, nullptr, &now) == 0 && (now.sa_flags & SA_SIGINFO) == 0 &&
         now.sa_handler == &do_nothing;
}

int find_nudge_signal() {
  for (int signal = SIGRTMAX - 1; signal > SIGRTMIN; --signal) {
    struct sigaction now {};
    if (::sigaction(signal, nullptr, &now) != 0 || (now.sa_flags & SA_SIGINFO) != 0 ||
        now.sa_handler != SIG_DFL) {
      continue;
    }
    struct sigaction quiet {};
    quiet.sa_handler = &do_nothing;  // without SA_RESTART: EINTR
    if (::sigaction(signal, &quiet, nullptr) == 0) {
      return signal;
    }
  }
  return 0;
}

}  // namespace

// Looked at each time: a program that sets all signals back (many do after a fork) would be ended
// by one that it knows nothing of.
int reserve_nudge_signal() {
  static int signal = 0;
  if (signal == 0 || !is_ours(signal)) {
    signal = find_nudge_signal();
  }
  return signal;
}

pg_result ThreadStepper::take(Entry& entry, const procguard_trip& trip) {
  bool sent = true;
  if (trip.action == PG_ACTION_EXCEPTION) {
    entry.trip = trip;
    entry.set_pending();
    entry.thread.load()->bell.fetch_add(1);
    futex_wake_all(entry.thread.load()->bell);
    nudge(entry);
  } else {
    entry.signalled = true;
    sent = send(entry, static_cast<int>(trip.signal));
  }
  if (entry.guard->deliver != nullptr) {
    const procguard_entry handle{&entry, generation_of(entry.state.load())};
    deliveries_.push(entry.guard->deliver, handle, trip);
  }
  return sent ? PG_RESULT_SENT : PG_RESULT_FAILED;
}

void ThreadStepper::nudge(Entry& entry) {
  if (!entry.guard->break_syscalls || entry.suspended) {
    return;
  }
  if (const int signal = reserve_nudge_signal(); signal != 0) {
    send(entry, signal);
  }
}

}  // namespace procguard::client
