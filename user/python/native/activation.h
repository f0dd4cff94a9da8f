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

#include <atomic>
#include <utility>
#include <vector>

#include "procguard/procguard.h"
#include "python/native/py.h"

namespace procguard::python {

struct Activation;

// One a thread that has used guards; lives as long as the thread, longer if it left some active.
struct ThreadState {
  std::atomic<unsigned long> ident{0};  // 0: the thread has ended
  bool is_main = false;
  unsigned quiet = 0;   // see Quiet
  bool missed = false;  // something was to be raised meanwhile
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
  // Of a task: who is woken when it is due while the task sleeps. The session's, which outlives it.
  PyObject* session = nullptr;
  PyObject* loop = nullptr;
  PyObject* task = nullptr;
  PyObject* coroutine = nullptr;  // the task's; `async with` only
  ThreadState* home = nullptr;    // `async with`: never resumed, but it may be running there
  unsigned holders = 1;           // whoever it is active for, and Hold
  bool left = false;
};

// Wherever Python code runs the GIL may change hands and an activation be left: it stays in memory.
class Hold {
 public:
  explicit Hold(Activation* activation) : activation_(activation) {
    if (activation_ != nullptr) {
      ++activation_->holders;
    }
  }
  Hold(Hold&& other) noexcept : activation_(std::exchange(other.activation_, nullptr)) {}
  Hold& operator=(Hold&&) = delete;
  ~Hold() {
    if (activation_ != nullptr && --activation_->holders == 0) {
      delete activation_;
    }
  }
  Activation* get() const { return activation_; }
  Activation* operator->() const { return activation_; }
  // Is it active (still)?
  explicit operator bool() const {
    // The analyzer does not count holders.
    return activation_ != nullptr &&
           !activation_->left;  // NOLINT(clang-analyzer-cplusplus.NewDelete)
  }

 private:
  Activation* activation_;
};

// While Python code of the package runs in this thread on behalf of native code: what becomes due
// meanwhile is raised afterwards, in the guarded code.
class Quiet {
 public:
  Quiet();
  Quiet(const Quiet&) = delete;
  Quiet& operator=(const Quiet&) = delete;
  ~Quiet();

 private:
  ThreadState* thread_;
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

// See procguard_suspend(). What is pending stays so, out of the slot; a task is woken for it.
void suspend(Activation* activation);
// In this thread. True: an exception is pending.
bool resume(Activation* activation);
// What is pending already is raised in the thread that it runs in.
void deliver_pending(Activation* activation);

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
// From now on nothing is told to the interpreter, which is about to end.
void shut_down();

}  // namespace procguard::python
