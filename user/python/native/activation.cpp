// SPDX-License-Identifier: Apache-2.0
#include "python/native/activation.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <vector>

#include "python/native/main_signal.h"
#include "python/native/pending.h"
#include "python/native/warn.h"

namespace procguard::python {
namespace {

unsigned long long g_next_number = 1;
unsigned long g_main_ident = 0;
std::atomic<bool> g_closing{false};
std::atomic<bool> g_delivering{false};

// The record of a thread that ended inside a guard stays: its activations may be left by others.
// Its number may become another thread's.
struct Owner {
  ThreadState* state = nullptr;
  ~Owner() {
    if (state == nullptr) {
      return;
    }
    if (state->innermost == nullptr && state->at_home.empty()) {
      delete state;
    } else {
      state->ident = 0;
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
  if (thread->quiet != 0) {
    return;
  }
  Activation* first = nullptr;
  const auto consider = [&first](Activation* one) {
    if (one->waits && (first == nullptr || is_outer(*one, *first))) {
      first = one;
    }
  };
  for (Activation* one = thread->innermost; one != nullptr; one = one->outer) {
    consider(one);
  }
  std::for_each(thread->at_home.begin(), thread->at_home.end(), consider);
  if (first != nullptr) {
    put_in_slot(thread, first);
  }
}

void request(ThreadState* thread, Activation* activation) {
  Activation* now = thread->in_slot;
  const bool its_turn = now == nullptr || now == activation || is_outer(*activation, *now);
  if (thread->quiet != 0 || !its_turn) {
    activation->waits = true;
    return;
  }
  put_in_slot(thread, activation);  // again, too: somebody may have dropped it half-raised
  if (now != nullptr && now != activation) {
    now->waits = true;
  }
}

// Does the coroutine of its task run at this moment, or what it has called? While it does not, the
// task may still be the current one: then the loop's own code runs. No bytecode, so that the
// answer holds until the GIL is given up.
bool runs_now(const Activation& activation) {
  Ref running(activation.coroutine == nullptr
                  ? nullptr
                  : PyObject_GetAttrString(activation.coroutine, "cr_running"));
  if (!running) {
    PyErr_Clear();
  }
  return running && PyObject_IsTrue(running.get()) == 1;
}

void wake_task(const Hold& activation) {
  const Quiet quiet;
  const Ref session = Ref::borrow(activation->session);
  const Ref loop = Ref::borrow(activation->loop);
  const Ref task = Ref::borrow(activation->task);
  Ref done(PyObject_CallFunctionObjArgs(g_names.wake_task, session.get(), loop.get(), task.get(),
                                        nullptr));
  if (!done) {
    PyErr_Clear();  // its loop is closed: nothing runs there any more
  }
}

// Of the main thread's activations of `async with` blocks that have something pending, the one
// whose task runs; the tasks of the others are woken.
Hold running_at_home(const ThreadState& thread) {
  std::vector<Hold> pending;
  for (Activation* one : thread.at_home) {
    if (procguard_is_pending(one->entry) == 1) {
      pending.emplace_back(one);
    }
  }
  Activation* first = nullptr;
  for (const Hold& one : pending) {
    if (!one) {
      continue;
    }
    if (!runs_now(*one.get())) {
      wake_task(one);
    } else if (first == nullptr || is_outer(*one.get(), *first)) {
      first = one.get();
    }
  }
  return Hold(first);
}

// The outermost of the main thread's activations whose exception is pending and may be raised now.
Hold outermost_pending(const ThreadState& thread) {
  const Hold at_home = running_at_home(thread);
  Activation* first = at_home ? at_home.get() : nullptr;
  for (Activation* one = thread.innermost; one != nullptr; one = one->outer) {
    if (procguard_is_pending(one->entry) == 1 && (first == nullptr || is_outer(*one, *first))) {
      first = one;
    }
  }
  return Hold(first);
}

// `called`: raise_in_main() will run.
void deliver_exception(const Hold& activation, bool called) {
  ThreadState* thread = activation->thread;
  if (thread == nullptr && activation->home != nullptr && runs_now(*activation.get())) {
    thread = activation->home;
  }
  if (thread == nullptr) {
    if (activation->task != nullptr) {
      wake_task(activation);
    }
  } else if (!thread->is_main || (!called && !interrupt_main())) {
    request(thread, activation.get());
  }
}

struct Told {
  procguard_entry entry;
  procguard_trip trip;
  bool called = false;  // raise_in_main() will run
};

// What can be done without the GIL. False: it is all there was to do.
bool begin_telling(Told& told) {
  if (told.trip.action != PROCGUARD_ACTION_EXCEPTION) {
    if (!is_main_tid(procguard_thread_id(told.entry))) {
      wake_main();
    }
    return told.trip.last != 0;
  }
  // Raised or left already: nothing to wait for, and others wait for this thread.
  if (procguard_is_pending(told.entry) == 0) {
    return told.trip.last != 0;
  }
  // The main thread need not wait for us.
  told.called = is_main_tid(procguard_thread_id(told.entry)) && interrupt_main();
  return true;
}

// Under the GIL. What was not told in time, and that nothing more will come, is said in any case:
// its block may have been left meanwhile.
void tell(const Told& told) {
  if (told.trip.action == PROCGUARD_ACTION_EXCEPTION) {
    // Leaving needs the GIL too: an entry that is there now stays until we let it go.
    const Hold activation(static_cast<Activation*>(procguard_user(told.entry)));
    if (activation && procguard_is_pending(told.entry) == 1) {
      deliver_exception(activation, told.called);
    }
    warn_if_late(told.trip);
  }
  if (told.trip.last != 0) {
    warn_last_step(told.trip);
  }
}

}  // namespace

Quiet::Quiet() : thread_(t_state) {
  if (thread_ == nullptr || thread_->quiet++ != 0 || thread_->in_slot == nullptr) {
    return;
  }
  thread_->in_slot->waits = true;
  put_in_slot(thread_, nullptr);
}

Quiet::~Quiet() {
  if (thread_ == nullptr || --thread_->quiet != 0) {
    return;
  }
  fill_slot(thread_);
  if (std::exchange(thread_->missed, false)) {
    interrupt_main();
  }
}

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
  set_main_tid(tid);
}

void stay_at_home(Activation* activation) {
  activation->home = this_thread();
  activation->home->at_home.push_back(activation);
}

Activation* activate(PyObject* guard, procguard_guard* native, bool is_timeout, bool suspended) {
  if (this_thread()->is_main) {
    reserve_signal();
  }
  auto activation = std::make_unique<Activation>();
  activation->guard = guard;  // owned from when it is entered
  activation->is_timeout = is_timeout;
  activation->number = g_next_number++;
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
  Py_INCREF(guard);
  if (suspended) {
    procguard_suspend(activation->entry);
  } else {
    link_to(activation.get(), this_thread());
    deliver_pending(activation.get());  // due at once, and told while nobody knew whose it is
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
  const Ref guard(activation->guard);
  activation->left = true;
  activation->thread = nullptr;
  activation->home = nullptr;
  if (--activation->holders == 0) {
    delete activation;
  }
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
  if (activation->task != nullptr && procguard_is_pending(activation->entry) == 1) {
    wake_task(Hold(activation));
  }
}

void deliver_pending(Activation* activation) {
  if (procguard_is_pending(activation->entry) == 1) {
    deliver_exception(Hold(activation), false);
  }
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
  if (t_state->quiet != 0) {
    t_state->missed = true;
    return true;
  }
  const Hold activation = outermost_pending(*t_state);
  procguard_trip trip{};
  if (!activation || procguard_take_entry(activation->entry, &trip) == 0) {
    return true;
  }
  Ref exception(make_exception(*activation.get(), trip));
  if (outermost_pending(*t_state)) {
    interrupt_main();
  }
  if (exception) {
    PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(exception.get())), exception.get());
  }
  return false;
}

void deliver(procguard_entry entry, const procguard_trip* trip) {
  Told told{entry, *trip};
  if (!begin_telling(told)) {
    return;
  }
  g_delivering = true;
  if (!g_closing && Py_IsInitialized() != 0) {
    const PyGILState_STATE gil = PyGILState_Ensure();
    tell(told);
    // The GIL may have been long in coming: what became due meanwhile does not wait for it again.
    Told next{};
    while (procguard_next_delivery(&deliver, &next.entry, &next.trip) == 1) {
      if (begin_telling(next)) {
        tell(next);
      }
    }
    PyGILState_Release(gil);
  }
  g_delivering = false;
}

void progress(Activation* activation) {
  if (procguard_progress(activation->entry) == 1) {
    withdraw(activation);
  }
}

void shut_down() {
  g_closing = true;
  Py_BEGIN_ALLOW_THREADS;
  while (g_delivering) {
    sched_yield();
  }
  Py_END_ALLOW_THREADS;
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
  g_delivering = false;
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
