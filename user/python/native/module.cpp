// SPDX-License-Identifier: Apache-2.0
// procguard._native: guards over libprocguard's C ABI. The package's Python files hold what needs
// no speed: exceptions, decorators, the asyncio side.
#include "python/native/guard_object.h"
#include "python/native/pending.h"
#include "python/native/py.h"
#include "python/native/session.h"

namespace procguard::python {

Names g_names;

namespace {

Activation* innermost_timeout() {
  for (Activation* one = this_thread()->innermost; one != nullptr; one = one->outer) {
    if (one->is_timeout && procguard_is_entered(one->entry) == 1) {
      return one;
    }
  }
  return nullptr;
}

// The guard that `ctx` is or, a decorated function, has. nullptr and an error.
Ref progress_of(PyObject* ctx) {
  Ref method(PyObject_GetAttrString(ctx, "progress"));
  Ref guard(is_guard(ctx) ? Ref::borrow(ctx).release() : PyObject_GetAttrString(ctx, "__guard__"));
  if (!method || !guard || !is_guard(guard.get())) {
    PyErr_Clear();
    PyErr_Format(PyExc_RuntimeError, "no valid TimeGuard: %R", ctx);
    return Ref();
  }
  return method;
}

PyObject* module_progress(PyObject*, PyObject* args, PyObject* kwargs) {
  PyObject* ctx = nullptr;
  if (kwargs != nullptr || PyTuple_Size(args) != 0) {
    static const char* const kNames[] = {"ctx", nullptr};
    if (PyArg_ParseTupleAndKeywords(args, kwargs, "|O:progress", const_cast<char**>(kNames),
                                    &ctx) == 0) {
      return nullptr;
    }
  }
  if (ctx != nullptr && ctx != Py_None) {
    const Ref method = progress_of(ctx);
    return method ? PyObject_CallObject(method.get(), nullptr) : nullptr;
  }
  Activation* activation = innermost_timeout();
  if (activation == nullptr) {
    PyErr_SetString(PyExc_RuntimeError, "no valid TimeGuard: the calling thread is in none");
    return nullptr;
  }
  progress(activation);
  Py_RETURN_NONE;
}

PyObject* module_source(PyObject*, PyObject*) {
  return PyUnicode_FromString(procguard_source());
}

// The handler of the reserved signal.
PyObject* module_interrupt(PyObject*, PyObject*) {
  if (!raise_in_main()) {
    return nullptr;
  }
  Py_RETURN_NONE;
}

PyObject* module_after_fork(PyObject*, PyObject*) {
  after_fork_in_child();
  Py_RETURN_NONE;
}

PyObject* module_shut_down(PyObject*, PyObject*) {
  shut_down();
  Py_RETURN_NONE;
}

constexpr const char* kTimeGuardDoc =
    "time_guard(timeout=60, timeout_ms=None, grace_period=15, grace_period_ms=None, "
    "interrupt_type=InterruptType.exception_then_signal, send_kill=False, check_interval=500)\n"
    "--\n\n"
    "A guard for the execution time of what it decorates or of its `with` block.\n\n"
    "timeout, timeout_ms: seconds or milliseconds since it was entered or the last progress;\n"
    "    the milliseconds win. 0 fires at once.\n"
    "grace_period, grace_period_ms: between the steps of the interrupt; at least 10 ms.\n"
    "interrupt_type: exceptions, signals, or an exception and then signals.\n"
    "send_kill: the last signal is SIGKILL.\n"
    "check_interval: milliseconds; deadlines are kept exactly, whatever it is.\n\n"
    "TypeError, ValueError: an argument is of the wrong type, negative or absurd.";

constexpr const char* kMemGuardDoc =
    "mem_guard(max_memory, absolute=True, grace_period=0, grace_period_ms=0, "
    "secondary_grace_period=5, secondary_grace_period_ms=None, "
    "interrupt_type=InterruptType.exception_then_signal, send_kill=False, check_interval=500)\n"
    "--\n\n"
    "A guard for the memory of the process while what it decorates or its `with` block runs.\n\n"
    "max_memory: KiB of RSS (resident file, anonymous and shared memory of the process).\n"
    "absolute: False: above the RSS at entry.\n"
    "grace_period, grace_period_ms: how long it may be exceeded before the interrupt; falling\n"
    "    below the limit starts anew.\n"
    "secondary_grace_period, secondary_grace_period_ms: between the steps; at least 10 ms.\n"
    "interrupt_type, send_kill: as for time_guard().\n"
    "check_interval: milliseconds; how stale a reading may be where the kernel tells no crossing\n"
    "    (see source()).\n\n"
    "TypeError, ValueError: an argument is of the wrong type, negative or absurd.";

constexpr const char* kProgressDoc =
    "progress(ctx=None)\n--\n\n"
    "Report progress: the timeout of `ctx`, a guard or a decorated function, counts from now.\n"
    "Without it: of the innermost active TimeGuard of the calling thread.\n\n"
    "RuntimeError: there is none.";

constexpr const char* kSourceDoc =
    "source()\n--\n\n"
    "Where memory readings come from: 'agent' or 'bpf' (crossings are told) or 'procfs' (read "
    "every\n"
    "check_interval). PROCGUARD_SOURCE=auto|agent|bpf|procfs in the environment decides.";

template <typename Function>
PyCFunction as_method(Function* function) {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(function));
}

PyMethodDef g_methods[] = {
    {"time_guard", as_method(&time_guard), METH_VARARGS | METH_KEYWORDS, kTimeGuardDoc},
    {"mem_guard", as_method(&mem_guard), METH_VARARGS | METH_KEYWORDS, kMemGuardDoc},
    {"progress", as_method(&module_progress), METH_VARARGS | METH_KEYWORDS, kProgressDoc},
    {"source", module_source, METH_NOARGS, kSourceDoc},
    {"_interrupt", module_interrupt, METH_VARARGS, nullptr},
    {"_after_fork", module_after_fork, METH_NOARGS, nullptr},
    {"_shut_down", module_shut_down, METH_NOARGS, nullptr},
    {nullptr, nullptr, 0, nullptr}};

PyModuleDef g_module = {PyModuleDef_HEAD_INIT,
                        "procguard._native",
                        nullptr,
                        -1,
                        g_methods,
                        nullptr,
                        nullptr,
                        nullptr,
                        nullptr};

bool find_names() {
  Ref support(PyImport_ImportModule("procguard._support"));
  if (!support) {
    return false;
  }
  const std::pair<const char*, PyObject**> wanted[] = {
      {"ExecutionTimeout", &g_names.execution_timeout},
      {"MemoryLimitExceeded", &g_names.memory_limit_exceeded},
      {"InterruptType", &g_names.interrupt_type},
      {"Trip", &g_names.trip},
      {"reserve_signal", &g_names.reserve_signal},
      {"wake_task", &g_names.wake_task},
      {"is_users_cancellation", &g_names.is_users_cancellation}};
  for (const auto& [name, place] : wanted) {
    *place = PyObject_GetAttrString(support.get(), name);
    if (*place == nullptr) {
      return false;
    }
  }
  return true;
}

}  // namespace
}  // namespace procguard::python

PyMODINIT_FUNC PyInit__native() {  // NOLINT(bugprone-reserved-identifier): Python's name for it
  using namespace procguard::python;
  Ref threading(PyImport_ImportModule("threading"));
  Ref main(threading ? PyObject_CallMethod(threading.get(), "main_thread", nullptr) : nullptr);
  Ref ident(main ? PyObject_GetAttrString(main.get(), "ident") : nullptr);
  Ref native(main ? PyObject_GetAttrString(main.get(), "native_id") : nullptr);
  if (!ident || !native) {
    return nullptr;
  }
  set_main_thread(PyLong_AsUnsignedLong(ident.get()),
                  static_cast<int>(PyLong_AsLong(native.get())));
  Ref module(PyModule_Create(&g_module));
  if (!module || !find_names() || !make_pending_classes() || !make_guard_types(module.get()) ||
      !make_session_types(module.get()) ||
      PyModule_AddObject(module.get(), "InterruptType",
                         Ref::borrow(g_names.interrupt_type).release()) != 0) {
    return nullptr;  // InterruptType: the signatures of the factories name it
  }
  return module.release();
}
