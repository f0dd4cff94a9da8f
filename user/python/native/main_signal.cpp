// SPDX-License-Identifier: Apache-2.0
#include "python/native/main_signal.h"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>

#include "python/native/py.h"

namespace procguard::python {
namespace {

std::atomic<int> g_main_tid{0};
std::atomic<int> g_signal{0};  // 0: none yet

void do_nothing(int) {}

int find_wake_signal() {
  for (int signal = SIGRTMAX - 1; signal > SIGRTMIN; --signal) {
    struct sigaction now {};
    struct sigaction quiet {};
    quiet.sa_handler = &do_nothing;  // without SA_RESTART: EINTR
    if (::sigaction(signal, nullptr, &now) == 0 && now.sa_handler == SIG_DFL &&
        ::sigaction(signal, &quiet, nullptr) == 0) {
      return signal;
    }
  }
  return 0;
}

bool has_handler(int signal) {
  struct sigaction now {};
  return ::sigaction(signal, nullptr, &now) == 0 && now.sa_handler != SIG_DFL &&
         now.sa_handler != SIG_IGN;
}

}  // namespace

void set_main_tid(int tid) {
  g_main_tid = tid;
}

bool is_main_tid(int tid) {
  return tid != 0 && tid == g_main_tid.load();
}

void reserve_signal() {
  if (g_signal.load() != 0) {
    return;
  }
  Ref reserved(PyObject_CallFunctionObjArgs(g_names.reserve_signal, nullptr));
  if (reserved) {
    g_signal = static_cast<int>(PyLong_AsLong(reserved.get()));
  } else {
    PyErr_Clear();  // another interpreter's main thread
  }
}

bool interrupt_main() {
  const int signal = g_signal.load();
  return signal != 0 && has_handler(signal) &&
         ::syscall(SYS_tgkill, ::getpid(), g_main_tid.load(), signal) == 0;
}

void wake_main() {
  static int signal = 0;
  if (signal == 0 || !has_handler(signal)) {
    signal = find_wake_signal();
  }
  if (signal != 0) {
    ::syscall(SYS_tgkill, ::getpid(), g_main_tid.load(), signal);
  }
}

}  // namespace procguard::python
