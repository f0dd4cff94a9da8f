// SPDX-License-Identifier: Apache-2.0
#include "python/native/guard_object.h"

#include <cerrno>

#include "python/native/arguments.h"
#include "python/native/pending.h"

namespace procguard::python {
namespace {

PyObject* g_time_type = nullptr;
PyObject* g_mem_type = nullptr;
PyObject* g_edge_type = nullptr;

PyObject* make_edge(PyObject* guard, PyObject* exception);

// The latest activation of the guard in this thread; without one, the latest of all: a block may be
// left by another thread than entered it (a generator's).
Activation* to_leave(const GuardObject& guard) {
  const ThreadState* mine = this_thread();
  for (Activation* one = guard.activations; one != nullptr; one = one->next) {
    if (one->thread == mine && one->home == nullptr) {
      return one;
    }
  }
  return guard.activations;
}

PyObject* guard_new(PyTypeObject*, PyObject*, PyObject*) {
  PyErr_SetString(PyExc_TypeError, "guards are made by time_guard() and mem_guard()");
  return nullptr;
}

PyObject* guard_enter(PyObject* self, PyObject*) {
  if (enter(as_guard(self), false) == nullptr) {
    return nullptr;
  }
  Py_INCREF(self);
  return self;
}

PyObject* guard_exit(PyObject* self, PyObject*) {
  Activation* activation = to_leave(*as_guard(self));
  if (activation == nullptr) {
    PyErr_SetString(PyExc_RuntimeError, "the guard is not active");
    return nullptr;
  }
  if (!leave(as_guard(self), activation)) {
    return nullptr;
  }
  Py_RETURN_FALSE;
}

// Of this thread's innermost activation; without one, of all. Never fails.
PyObject* guard_progress(PyObject* self, PyObject*) {
  Activation* latest = as_guard(self)->activations;
  if (latest == nullptr) {
    Py_RETURN_NONE;
  }
  const ThreadState* mine = this_thread();
  for (Activation* one = latest; one != nullptr; one = one->next) {
    if (one->thread == mine) {
      progress(one);
      Py_RETURN_NONE;
    }
  }
  for (Activation* one = latest; one != nullptr; one = one->next) {
    progress(one);
  }
  Py_RETURN_NONE;
}

PyObject* guard_last_trip(PyObject* self, void*) {
  procguard_trip trip{};
  if (procguard_last_trip(as_guard(self)->native, &trip) == 0) {
    Py_RETURN_NONE;
  }
  return make_trip(trip);
}

PyObject* guard_reduce(PyObject* self, PyObject*) {
  const GuardObject* guard = as_guard(self);
  Ref package(PyImport_ImportModule("procguard"));
  Ref make(package ? PyObject_GetAttrString(package.get(), "_make") : nullptr);
  Ref kwargs(guard->kwargs == nullptr ? PyDict_New() : PyDict_Copy(guard->kwargs));
  return make && kwargs
             ? Py_BuildValue("O(sOO)", make.get(), guard->is_timeout ? "time_guard" : "mem_guard",
                             guard->args, kwargs.get())
             : nullptr;
}

PyObject* guard_repr(PyObject* self) {
  const GuardObject* guard = as_guard(self);
  Ref package(PyImport_ImportModule("procguard"));
  Ref describe(package ? PyObject_GetAttrString(package.get(), "_describe") : nullptr);
  return describe ? PyObject_CallFunction(
                        describe.get(), "sOO", guard->is_timeout ? "time_guard" : "mem_guard",
                        guard->args, guard->kwargs == nullptr ? Py_None : guard->kwargs)
                  : nullptr;
}

// Of the package's Python files, with the guard and perhaps an argument.
PyObject* call_decorate(const char* name, PyObject* self, PyObject* argument) {
  Ref package(PyImport_ImportModule("procguard._decorate"));
  Ref function(package ? PyObject_GetAttrString(package.get(), name) : nullptr);
  return function ? PyObject_CallFunctionObjArgs(function.get(), self, argument, nullptr) : nullptr;
}

PyObject* guard_call(PyObject* self, PyObject* args, PyObject* kwargs) {
  PyObject* function = nullptr;
  const char* const names[] = {"func", nullptr};
  if (PyArg_ParseTupleAndKeywords(args, kwargs, "O", const_cast<char**>(names), &function) == 0) {
    return nullptr;
  }
  return call_decorate("decorate", self, function);
}

PyObject* guard_aenter(PyObject* self, PyObject*) {
  return make_edge(self, nullptr);
}

PyObject* guard_aexit(PyObject* self, PyObject* args) {
  return make_edge(self, PyTuple_Size(args) > 1 ? PyTuple_GetItem(args, 1) : Py_None);
}

// What `async with` awaits when it begins and when it ends. Native, so that no exception of the
// guard is raised before its block has begun or after it was left.
struct Edge {
  PyObject_HEAD PyObject* guard;  // owned
  PyObject* exception;            // owned: that the block ends with, or None; nullptr: it begins
};

PyObject* make_edge(PyObject* guard, PyObject* exception) {
  auto* edge = PyObject_New(Edge, reinterpret_cast<PyTypeObject*>(g_edge_type));
  if (edge != nullptr) {
    edge->guard = Ref::borrow(guard).release();
    edge->exception = Ref::borrow(exception).release();
  }
  return reinterpret_cast<PyObject*>(edge);
}

PyObject* edge_await(PyObject* self) {
  Py_INCREF(self);
  return self;
}

PyObject* edge_next(PyObject* self) {
  const auto* edge = reinterpret_cast<Edge*>(self);
  const Quiet quiet;
  const bool begins = edge->exception == nullptr;
  const Ref result(
      call_decorate(begins ? "enter_async" : "exit_async", edge->guard, edge->exception));
  if (result) {
    PyErr_SetObject(PyExc_StopIteration, result.get());
  }
  return nullptr;
}

void edge_dealloc(PyObject* self) {
  auto* edge = reinterpret_cast<Edge*>(self);
  PyTypeObject* type = Py_TYPE(self);
  Py_XDECREF(edge->guard);
  Py_XDECREF(edge->exception);
  PyObject_Free(self);
  Py_DECREF(type);
}

PyObject* make_edge_type() {
  PyType_Slot slots[] = {{Py_tp_dealloc, reinterpret_cast<void*>(&edge_dealloc)},
                         {Py_tp_iter, reinterpret_cast<void*>(&edge_await)},
                         {Py_tp_iternext, reinterpret_cast<void*>(&edge_next)},
                         {Py_am_await, reinterpret_cast<void*>(&edge_await)},
                         {0, nullptr}};
  PyType_Spec spec{"procguard._native.Edge", sizeof(Edge), 0, Py_TPFLAGS_DEFAULT, slots};
  return PyType_FromSpec(&spec);
}

void guard_dealloc(PyObject* self) {
  GuardObject* guard = as_guard(self);
  PyTypeObject* type = Py_TYPE(self);
  procguard_guard_unref(guard->native);  // activations hold the object: there are none
  Py_XDECREF(guard->args);
  Py_XDECREF(guard->kwargs);
  PyObject_Free(self);
  Py_DECREF(type);
}

constexpr const char* kProgressDoc =
    "progress($self, /)\n--\n\n"
    "Report progress: the timeout counts from now. Acts on the innermost activation\n"
    "of this guard in the calling thread, else on all. Withdraws an exception that was\n"
    "due and not raised yet. Never fails; any thread may call it.";

PyMethodDef g_time_methods[] = {
    {"__enter__", guard_enter, METH_NOARGS, "Guard the calling thread from now on."},
    {"__exit__", guard_exit, METH_VARARGS, "Leave the block: no step begins after this."},
    {"progress", guard_progress, METH_NOARGS, kProgressDoc},
    {"__aenter__", guard_aenter, METH_NOARGS, "Guard the current task from now on."},
    {"__aexit__", guard_aexit, METH_VARARGS, "Leave the block."},
    {"__reduce__", guard_reduce, METH_NOARGS, nullptr},
    {nullptr, nullptr, 0, nullptr}};

PyMethodDef g_mem_methods[] = {
    {"__enter__", guard_enter, METH_NOARGS, "Guard the calling thread from now on."},
    {"__exit__", guard_exit, METH_VARARGS, "Leave the block: no step begins after this."},
    {"__aenter__", guard_aenter, METH_NOARGS, "Guard the current task from now on."},
    {"__aexit__", guard_aexit, METH_VARARGS, "Leave the block."},
    {"__reduce__", guard_reduce, METH_NOARGS, nullptr},
    {nullptr, nullptr, 0, nullptr}};

PyGetSetDef g_getset[] = {
    {"last_trip", guard_last_trip, nullptr,
     "The guard's last step in any of its activations, a Trip, or None.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};

PyObject* make_type(PyObject* module, const char* name, const char* doc, PyMethodDef* methods) {
  PyType_Slot slots[] = {{Py_tp_new, reinterpret_cast<void*>(&guard_new)},
                         {Py_tp_dealloc, reinterpret_cast<void*>(&guard_dealloc)},
                         {Py_tp_call, reinterpret_cast<void*>(&guard_call)},
                         {Py_tp_repr, reinterpret_cast<void*>(&guard_repr)},
                         {Py_tp_methods, methods},
                         {Py_tp_getset, g_getset},
                         {Py_tp_doc, const_cast<char*>(doc)},
                         {0, nullptr}};
  PyType_Spec spec{name, sizeof(GuardObject), 0, Py_TPFLAGS_DEFAULT, slots};
  PyObject* type = PyType_FromSpec(&spec);
  if (type == nullptr) {
    return nullptr;
  }
  Py_INCREF(type);
  const char* dot = name;
  for (const char* c = name; *c != '\0'; ++c) {
    dot = *c == '.' ? c + 1 : dot;
  }
  return PyModule_AddObject(module, dot, type) == 0 ? type : nullptr;
}

PyObject* make_guard(PyObject* type, const procguard_options& options, PyObject* args,
                     PyObject* kwargs) {
  char error[160] = "";
  procguard_guard* native = procguard_guard_new(&options, error, sizeof(error));
  if (native == nullptr) {
    PyErr_SetString(PyExc_ValueError, error);
    return nullptr;
  }
  auto* guard = PyObject_New(GuardObject, reinterpret_cast<PyTypeObject*>(type));
  if (guard == nullptr) {
    procguard_guard_unref(native);
    return nullptr;
  }
  guard->native = native;
  guard->activations = nullptr;
  guard->is_timeout = options.resource == PROCGUARD_TIMEOUT;
  guard->args = Ref::borrow(args).release();
  guard->kwargs = Ref::borrow(kwargs).release();
  return reinterpret_cast<PyObject*>(guard);
}

}  // namespace

bool make_guard_types(PyObject* module) {
  g_time_type = make_type(module, "procguard.TimeGuard",
                          "Guards the execution time of a block, a function, a coroutine or a\n"
                          "generator. Made by time_guard(); a decorator and a context manager.",
                          g_time_methods);
  g_mem_type = make_type(module, "procguard.MemGuard",
                         "Guards the memory (RSS) of the process during a block, a function, a\n"
                         "coroutine or a generator. Made by mem_guard(); a decorator and a\n"
                         "context manager.",
                         g_mem_methods);
  g_edge_type = make_edge_type();
  return g_time_type != nullptr && g_mem_type != nullptr && g_edge_type != nullptr;
}

bool is_guard(PyObject* object) {
  return PyObject_TypeCheck(object, reinterpret_cast<PyTypeObject*>(g_time_type)) ||
         PyObject_TypeCheck(object, reinterpret_cast<PyTypeObject*>(g_mem_type));
}

PyObject* time_guard(PyObject*, PyObject* args, PyObject* kwargs) {
  procguard_options options{};
  options.deliver = &deliver;
  return parse_time_guard(args, kwargs, options) ? make_guard(g_time_type, options, args, kwargs)
                                                 : nullptr;
}

PyObject* mem_guard(PyObject*, PyObject* args, PyObject* kwargs) {
  procguard_options options{};
  options.deliver = &deliver;
  return parse_mem_guard(args, kwargs, options) ? make_guard(g_mem_type, options, args, kwargs)
                                                : nullptr;
}

Activation* enter(GuardObject* guard, bool suspended) {
  Activation* activation =
      activate(reinterpret_cast<PyObject*>(guard), guard->native, guard->is_timeout, suspended);
  if (activation != nullptr) {
    activation->next = guard->activations;
    guard->activations = activation;
  }
  return activation;
}

bool leave(GuardObject* guard, Activation* activation) {
  for (Activation** at = &guard->activations; *at != nullptr; at = &(*at)->next) {
    if (*at == activation) {
      *at = activation->next;
      break;
    }
  }
  return deactivate(activation);
}

}  // namespace procguard::python
