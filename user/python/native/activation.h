// SPDX-License-Identifier: Apache-2.0
// Activation: a guard that is active in a Python thread, and what is needed to bring its exception
// there.
//
// To the main thread: by a real-time signal that nobody uses. The interpreter runs its handler
// there between two bytecodes, at once and without another thread waiting for the GIL first; the
// handler raises what is pending by then, so nothing has to be withdrawn. It also ends time.sleep()
// and other waits of the interpreter.
//
// To any other thread: CPython has one slot a thread for an exception that is set from outside. Of
// the guards of a thread that have one pending, the outermost gets the slot; when it has been
// raised (its class is called, see pending.cpp) the next one does. What is in the slot can be taken
// out again: leaving and progress do, so nothing is raised after its block.
//
// Everything here is under the GIL.
#pragma once

#include <vector>

#include "procguard/procguard.h"
#include "python/native/py.h"

namespace procguard::python {

struct Activation;

// One a thread that has used guards; lives as long as the thread, longer if it left some active.
struct ThreadState {
  unsigned long ident = 0;
  bool is_main = false;
  Activation* innermost = nullptr;
  Activation* in_slot = nullptr;
  std::vector<Activation*> at_home;  // of `async with` blocks
};

struct Activation {
  procguard_entry entry{};
  PyObject* guard = nullptr;      // owned
  ThreadState* thread = nullptr;  // nullptr: suspended
  Activation* outer = nullptr;    // of the same thread
  Activation* inner = nullptr;
  Activation* next = nullptr;  // of the same guard
  unsigned long long number = 0;
  bool is_timeout = false;
  bool waits = false;  // its exception is due and not in the slot
  // Of a task: who is woken when it is due while the task sleeps.
  PyObject* loop = nullptr;  // owned, as is task
  PyObject* task = nullptr;
  ThreadState* home = nullptr;  // `async with`: never resumed, but it may be running there
  bool cancelled = false;       // the task was cancelled so that it wakes
};

ThreadState* this_thread();
// Python's main thread, by Python's and the kernel's number.
void set_main_thread(unsigned long ident, int tid);
// For an `async with` block in this thread.
void stay_at_home(Activation* activation);
// Outermost of the thread's activations first: is it due before `other`?
inline bool is_outer(const Activation& one, const Activation& other) {
  return one.number < other.number;
}

// Active from now on, in this thread (or suspended). nullptr and an error: it cannot be.
Activation* activate(PyObject* guard, procguard_guard* native, bool is_timeout, bool suspended);
// Leaves, withdraws what is not raised, and frees it. In the main thread the handlers of signals
// that were sent run now; false and an error if one of them raised.
bool deactivate(Activation* activation);

// See procguard_suspend(). What is pending stays so, out of the slot.
void suspend(Activation* activation);
// In this thread. True: an exception is pending.
bool resume(Activation* activation);

// What Activation's guard is told of, on a thread of the library's own, without the GIL.
void deliver(procguard_entry entry, const procguard_trip* trip);
// Progress of this activation; what was pending for it is withdrawn.
void progress(Activation* activation);
// What became pending is raised no more (it was taken up or withdrawn).
void withdraw(Activation* activation);
// The exception in the slot of this thread is about to be raised: whose it is; nullptr: nobody's.
Activation* take_from_slot();
// The handler of the signal: raises in the main thread what is pending there; false: an error is
// set.
bool raise_in_main();
// The child of a fork has no guards.
void after_fork_in_child();

}  // namespace procguard::python
