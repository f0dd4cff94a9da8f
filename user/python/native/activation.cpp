// SPDX-License-Identifier: Apache-2.0
#include "python/native/activation.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <memory>

#include "python/native/pending.h"
#include "python/native/warn.h"

namespace procguard::python {
namespace {

unsigned long long g_next_number = 1;
unsigned long g_main_ident = 0;
std::atomic<int> g_main_tid{0};
std::atomic<int> g_signal{0};  // the reserved one; 0: none yet

// The record of a thread that ended inside a guard stays: its activations may be left by others.
struct Owner {
  ThreadState* state = nullptr;
  ~Owner() {
    if (state != nullptr && state->innermost == nullptr) {
      delete state;
    }
  }
};
thread_local Owner t_owner;
thread_local ThreadState* t_state = nullptr;

void link_to(Activation* activation, ThreadState* thread) {
  activation->thread = thread;
  activation->outer = thread->innermost;
  activation->inner = nullptr;
  if (thread->innermost != nullptr) {
    thread->innermost->inner = activation;
  }
  thread->innermost = activation;
}

void unlink(Activation* activation) {
  if (activation->thread == nullptr) {
    return;
  }
  if (activation->inner != nullptr) {
    activation->inner->outer = activation->outer;
  } else {
    activation->thread->innermost = activation->outer;
  }
  if (activation->outer != nullptr) {
    activation->outer->inner = activation->inner;
  }
  activation->outer = nullptr;
  activation->inner = nullptr;
}

PyObject* pending_class(const Activation& activation) {
  return activation.is_timeout ? g_names.pending_timeout : g_names.pending_memory;
}

void put_in_slot(ThreadState* thread, Activation* activation) {
  thread->in_slot = activation;
  if (activation != nullptr) {
    activation->waits = false;
  }
  PyThreadState_SetAsyncExc(thread->ident,
                            activation == nullptr ? nullptr : pending_class(*activation));
}

// The outermost that waits.
void fill_slot(ThreadState* thread) {
  Activation* first = nullptr;
  for (Activation* one = thread->innermost; one != nullptr; one = one->outer) {
    if (one->waits && (first == nullptr || is_outer(*one, *first))) {
      first = one;
    }
  }
  if (first != nullptr) {
    put_in_slot(thread, first);
  }
}

void request(ThreadState* thread, Activation* activation) {
  Activation* now = thread->in_slot;
  if (now == activation) {
    return;
  }
  if (now == nullptr || is_outer(*activation, *now)) {
    put_in_slot(thread, activation);
    if (now != nullptr) {
      now->waits = true;
    }
  } else {
    activation->waits = true;
  }
}

bool runs_now(const Activation& activation) {
  Ref answer(PyObject_CallFunctionObjArgs(g_names.is_current_task, activation.loop, activation.task,
                                          nullptr));
  if (!answer) {
    PyErr_Clear();
  }
  return answer && PyObject_IsTrue(answer.get()) == 1;
}

void wake_task(Activation* activation) {
  if (activation->cancelled) {
    return;
  }
  Ref done(PyObject_CallFunctionObjArgs(g_names.cancel_task, activation->loop, activation->task,
                                        nullptr));
  if (done) {
    activation->cancelled = true;
  } else {
    PyErr_WriteUnraisable(activation->guard);  // its loop is closed: nothing runs there any more
  }
}

// The outermost of the main thread's activations whose exception is pending and may be raised now.
// Tasks of `async with` that sleep are woken on the way.
Activation* outermost_pending(const ThreadState& thread) {
  Activation* first = nullptr;
  const auto consider = [&first](Activation* one) {
    first = first == nullptr || is_outer(*one, *first) ? one : first;
  };
  for (Activation* one = thread.innermost; one != nullptr; one = one->outer) {
    if (procguard_is_pending(one->entry) == 1) {
      consider(one);
    }
  }
  for (Activation* one : thread.at_home) {
    if (procguard_is_pending(one->entry) == 0) {
      continue;
    }
    if (runs_now(*one)) {
      consider(one);
    } else {
      wake_task(one);
    }
  }
  return first;
}

// Makes the interpreter call raise_in_main() soon. Without the GIL. False: until a guard was
// entered in the main thread the slot has to do.
bool interrupt_main() {
  const int signal = g_signal.load();
  return signal != 0 && ::syscall(SYS_tgkill, ::getpid(), g_main_tid.load(), signal) == 0;
}

// In the main thread, which alone may.
void reserve_signal() {
  if (g_signal.load() != 0) {
    return;
  }
  Ref reserved(PyObject_CallFunctionObjArgs(g_names.reserve_signal, nullptr));
  if (reserved) {
    g_signal = static_cast<int>(PyLong_AsLong(reserved.get()));
  } else {
    PyErr_Clear();  // another interpreter's main thread: the slot has to do
  }
}

// `called`: raise_in_main() will run.
void deliver_exception(Activation* activation, bool called) {
  ThreadState* thread = activation->thread;
  if (thread == nullptr && activation->home != nullptr && runs_now(*activation)) {
    thread = activation->home;
  }
  if (thread == nullptr) {
    if (activation->task != nullptr) {
      wake_task(activation);
    }
  } else if (!thread->is_main || (!called && !interrupt_main())) {
    request(thread, activation);
  }
}

}  // namespace

ThreadState* this_thread() {
  if (t_state == nullptr) {
    t_state = new ThreadState;
    t_state->ident = PyThread_get_thread_ident();
    t_state->is_main = t_state->ident == g_main_ident;
    t_owner.state = t_state;
  }
  return t_state;
}

void set_main_thread(unsigned long ident, int tid) {
  g_main_ident = ident;
  g_main_tid = tid;
}

void stay_at_home(Activation* activation) {
  activation->home = this_thread();
  activation->home->at_home.push_back(activation);
}

Activation* activate(PyObject* guard, procguard_guard* native, bool is_timeout, bool suspended) {
  auto activation = std::make_unique<Activation>();
  int error = 0;
  if (is_timeout) {
    error = procguard_enter(native, activation.get(), &activation->entry);
  } else {
    // The first one waits until the kernel's readings are to be had.
    Py_BEGIN_ALLOW_THREADS;
    error = procguard_enter(native, activation.get(), &activation->entry);
    Py_END_ALLOW_THREADS;
  }
  if (error != 0) {
    PyErr_Format(PyExc_OSError, "entering the guard: %s", std::strerror(error));
    return nullptr;
  }
  activation->guard = Ref::borrow(guard).release();
  activation->is_timeout = is_timeout;
  activation->number = g_next_number++;
  if (this_thread()->is_main) {
    reserve_signal();
  }
  if (suspended) {
    procguard_suspend(activation->entry);
  } else {
    link_to(activation.get(), this_thread());
  }
  return activation.release();
}

void withdraw(Activation* activation) {
  activation->waits = false;
  for (ThreadState* thread : {activation->thread, activation->home}) {
    if (thread != nullptr && thread->in_slot == activation) {
      put_in_slot(thread, nullptr);
      fill_slot(thread);
    }
  }
}

bool deactivate(Activation* activation) {
  const int left = procguard_leave(activation->entry, nullptr);
  unlink(activation);
  withdraw(activation);
  if (activation->home != nullptr) {
    std::erase(activation->home->at_home, activation);
  }
  Py_XDECREF(activation->loop);
  Py_XDECREF(activation->task);
  PyObject* guard = activation->guard;
  delete activation;
  Py_DECREF(guard);
  if (left < 0 || (left & PROCGUARD_SIGNALLED) == 0) {
    return true;
  }
  // The signal may be on its way to us: it arrives by the end of any system call.
  sched_yield();
  return PyErr_CheckSignals() == 0;
}

void suspend(Activation* activation) {
  ThreadState* thread = activation->thread;
  procguard_suspend(activation->entry);
  if (thread == nullptr) {
    return;
  }
  unlink(activation);
  withdraw(activation);
  activation->thread = nullptr;
}

bool resume(Activation* activation) {
  procguard_resume(activation->entry);
  link_to(activation, this_thread());
  return procguard_is_pending(activation->entry) == 1;
}

bool raise_in_main() {
  if (t_state == nullptr || !t_state->is_main) {
    return true;
  }
  Activation* activation = outermost_pending(*t_state);
  procguard_trip trip{};
  if (activation == nullptr || procguard_take_entry(activation->entry, &trip) == 0) {
    return true;
  }
  if (outermost_pending(*t_state) != nullptr) {
    interrupt_main();
  }
  Ref exception(make_exception(*activation, trip));
  if (exception) {
    PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(exception.get())), exception.get());
  }
  return false;
}

void deliver(procguard_entry entry, const procguard_trip* trip) {
  if (Py_IsInitialized() == 0) {
    return;
  }
  // Before we wait for the GIL: the main thread need not wait for us.
  const bool called = trip->action == PROCGUARD_ACTION_EXCEPTION &&
                      procguard_thread_id(entry) == g_main_tid.load() && interrupt_main();
  const PyGILState_STATE gil = PyGILState_Ensure();
  // Leaving needs the GIL too: an entry that is there now stays until we let it go.
  auto* activation = static_cast<Activation*>(procguard_user(entry));
  if (activation != nullptr) {
    if (trip->action == PROCGUARD_ACTION_EXCEPTION && procguard_is_pending(entry) == 1) {
      warn_if_late(*activation, *trip);
      deliver_exception(activation, called);
    }
    if (trip->last != 0) {
      warn_last_step(*activation, *trip);
    }
  }
  PyGILState_Release(gil);
}

void progress(Activation* activation) {
  if (procguard_progress(activation->entry) == 1) {
    withdraw(activation);
  }
}

Activation* take_from_slot() {
  ThreadState* thread = t_state;
  if (thread == nullptr || thread->in_slot == nullptr) {
    return nullptr;
  }
  Activation* taken = thread->in_slot;
  thread->in_slot = nullptr;
  fill_slot(thread);
  return taken;
}

void after_fork_in_child() {
  set_main_thread(PyThread_get_thread_ident(), ::gettid());
  if (t_state == nullptr) {
    return;
  }
  t_state->is_main = true;  // of the child
  for (Activation* one = t_state->innermost; one != nullptr; one = one->outer) {
    one->waits = false;
  }
  if (t_state->in_slot != nullptr) {
    put_in_slot(t_state, nullptr);
  }
}

}  // namespace procguard::python
