// SPDX-License-Identifier: Apache-2.0
#include "python/native/session.h"

#include "python/native/guard_object.h"
#include "python/native/pending.h"

namespace procguard::python {
namespace {

struct Session {
  PyObject_HEAD GuardObject* guard;  // owned
  PyObject* loop;                    // owned; nullptr: no task
  PyObject* task;
  PyObject* coroutine;     // the task's; `async with` only
  Activation* activation;  // nullptr: not begun, or closed
  bool woken;              // the task was cancelled so that it wakes and raises `taken`
  procguard_trip taken;
};

struct Drive {
  PyObject_HEAD Session* session;  // owned
  PyObject* work;                  // owned: has send(), throw(), close()
};

PyObject* g_drive_type = nullptr;
PyObject* g_send = nullptr;  // names of methods
PyObject* g_throw = nullptr;

Session* as_session(PyObject* object) {
  return reinterpret_cast<Session*>(object);
}
Drive* as_drive(PyObject* object) {
  return reinterpret_cast<Drive*>(object);
}

bool begin(Session* session) {
  if (session->activation != nullptr) {
    return true;
  }
  session->activation = enter(session->guard, true);
  if (session->activation == nullptr) {
    return false;
  }
  session->activation->session = reinterpret_cast<PyObject*>(session);
  session->activation->loop = session->loop;
  return true;
}

PyObject* send_into(PyObject* work, PyObject* value) {
  return PyObject_CallMethodObjArgs(work, g_send, value, nullptr);
}

PyObject* throw_into(PyObject* work, PyObject* exception) {
  return PyObject_CallMethodObjArgs(work, g_throw, exception, nullptr);
}

bool is_exception(PyObject* object) {
  return object != nullptr && PyObject_IsInstance(object, PyExc_BaseException) == 1;
}

// The task was cancelled by us so that it wakes: our exception takes the place of what it woke
// with (nullptr: a result). Nothing, also no error: it was not, or its user has cancelled it too.
Ref exception_of_waking(Session* session, PyObject* woke_with) {
  if (!session->woken) {
    return Ref();
  }
  const Quiet quiet;
  session->woken = false;
  Ref users(PyObject_CallFunctionObjArgs(g_names.is_users_cancellation, session->task,
                                         woke_with == nullptr ? Py_None : woke_with, nullptr));
  if (!users || PyObject_IsTrue(users.get()) == 1 || session->activation == nullptr) {
    PyErr_Clear();
    return Ref();
  }
  Ref exception(make_exception(*session->activation, session->taken));
  if (exception && is_exception(woke_with)) {
    PyException_SetCause(exception.get(), Ref::borrow(woke_with).release());
  }
  return exception;
}

// What is to be thrown now; nullptr without an error: nothing is.
Ref take_pending(Session* session) {
  Ref exception = exception_of_waking(session, nullptr);
  procguard_trip trip{};
  if (exception || PyErr_Occurred() != nullptr || session->activation == nullptr ||
      procguard_take_entry(session->activation->entry, &trip) == 0) {
    return exception;
  }
  return Ref(make_exception(*session->activation, trip));
}

// While a step is under way its task is woken for what is due. A generator that waits for its
// consumer is not: he may be asleep himself, in the same task.
bool before_step(Session* session) {
  session->activation->task = session->task;
  return resume(session->activation);
}

PyObject* after_step(Session* session, PyObject* result) {
  ErrorAside aside;
  if (session->activation != nullptr) {
    session->activation->task = result == nullptr ? nullptr : session->task;
    suspend(session->activation);
  }
  return result;
}

PyObject* drive_send(PyObject* self, PyObject* value) {
  Session* session = as_drive(self)->session;
  PyObject* work = as_drive(self)->work;
  if (!begin(session)) {
    return nullptr;
  }
  if (!before_step(session) && !session->woken) {
    return after_step(session, send_into(work, value));
  }
  const Ref exception = take_pending(session);
  PyObject* result = nullptr;
  if (exception) {
    result = throw_into(work, exception.get());
  } else if (PyErr_Occurred() == nullptr) {
    result = send_into(work, value);
  }
  return after_step(session, result);
}

PyObject* drive_next(PyObject* self) {
  return drive_send(self, Py_None);
}

// throw(type[, value[, traceback]]) and throw(exception).
PyObject* drive_throw(PyObject* self, PyObject* args) {
  Session* session = as_drive(self)->session;
  if (!begin(session)) {
    return nullptr;
  }
  PyObject* type = nullptr;
  PyObject* value = nullptr;
  PyObject* traceback = nullptr;
  if (PyArg_UnpackTuple(args, "throw", 1, 3, &type, &value, &traceback) == 0) {
    return nullptr;
  }
  // An instance carries its type and traceback: the three arguments are deprecated since 3.12.
  PyObject* exception = is_exception(value) ? value : type;
  const bool pending = before_step(session);
  const Ref ours = exception_of_waking(session, exception);
  // After an error that is thrown here. Who is cancelled or closed ends now, or takes it up later.
  if (pending && !ours && PyErr_GivenExceptionMatches(exception, PyExc_Exception) != 0) {
    deliver_pending(session->activation);
  }
  PyObject* result = nullptr;
  if (PyErr_Occurred() == nullptr) {
    result = throw_into(as_drive(self)->work, ours ? ours.get() : exception);
  }
  return after_step(session, result);
}

PyObject* drive_close(PyObject* self, PyObject*) {
  Session* session = as_drive(self)->session;
  if (session->activation != nullptr) {
    resume(session->activation);
  }
  return after_step(session, PyObject_CallMethod(as_drive(self)->work, "close", nullptr));
}

PyObject* return_self(PyObject* self) {
  Py_INCREF(self);
  return self;
}

int drive_traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(as_drive(self)->session);
  Py_VISIT(as_drive(self)->work);
  return 0;
}

void drive_dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  Py_XDECREF(as_drive(self)->session);
  Py_XDECREF(as_drive(self)->work);
  PyObject_GC_Del(self);
  Py_DECREF(type);
}

// _Session(guard, loop, task): loop and task are None outside of asyncio.
PyObject* session_new(PyTypeObject* type, PyObject* args, PyObject*) {
  PyObject* guard = nullptr;
  PyObject* loop = nullptr;
  PyObject* task = nullptr;
  if (PyArg_ParseTuple(args, "OOO", &guard, &loop, &task) == 0) {
    return nullptr;
  }
  if (!is_guard(guard)) {
    PyErr_SetString(PyExc_TypeError, "a session needs a guard");
    return nullptr;
  }
  auto* session = PyObject_GC_New(Session, type);
  if (session == nullptr) {
    return nullptr;
  }
  session->guard = as_guard(Ref::borrow(guard).release());
  session->loop = task == Py_None ? nullptr : Ref::borrow(loop).release();
  session->task = task == Py_None ? nullptr : Ref::borrow(task).release();
  session->coroutine = nullptr;
  session->activation = nullptr;
  session->woken = false;
  session->taken = {};
  PyObject_GC_Track(session);
  return reinterpret_cast<PyObject*>(session);
}

PyObject* session_drive(PyObject* self, PyObject* work) {
  auto* drive = PyObject_GC_New(Drive, reinterpret_cast<PyTypeObject*>(g_drive_type));
  if (drive == nullptr) {
    return nullptr;
  }
  drive->session = as_session(Ref::borrow(self).release());
  drive->work = Ref::borrow(work).release();
  PyObject_GC_Track(drive);
  return reinterpret_cast<PyObject*>(drive);
}

// For `async with`: active in this task from now on, never resumed.
PyObject* session_enter(PyObject* self, PyObject*) {
  if (!begin(as_session(self))) {
    return nullptr;
  }
  as_session(self)->coroutine = PyObject_CallMethod(as_session(self)->task, "get_coro", nullptr);
  if (as_session(self)->coroutine == nullptr) {
    return nullptr;
  }
  as_session(self)->activation->coroutine = as_session(self)->coroutine;
  as_session(self)->activation->task = as_session(self)->task;
  stay_at_home(as_session(self)->activation);
  Py_RETURN_NONE;
}

// In the loop's thread, between steps: what is pending will be raised when the task wakes. False:
// nothing is.
PyObject* session_take(PyObject* self, PyObject*) {
  Session* session = as_session(self);
  if (session->activation == nullptr || session->activation->task == nullptr || session->woken ||
      procguard_take_entry(session->activation->entry, &session->taken) == 0) {
    Py_RETURN_FALSE;
  }
  session->woken = true;
  Py_RETURN_TRUE;
}

// The exception that replaces the one that the task woke with, or None.
PyObject* session_convert(PyObject* self, PyObject* woke_with) {
  Ref exception = exception_of_waking(as_session(self), woke_with);
  if (exception) {
    return exception.release();
  }
  if (PyErr_Occurred() != nullptr) {
    return nullptr;
  }
  Py_RETURN_NONE;
}

PyObject* session_close(PyObject* self, PyObject*) {
  Session* session = as_session(self);
  Activation* activation = std::exchange(session->activation, nullptr);
  if (activation != nullptr && !leave(session->guard, activation)) {
    return nullptr;
  }
  Py_RETURN_NONE;
}

int session_traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(as_session(self)->guard);
  Py_VISIT(as_session(self)->loop);
  Py_VISIT(as_session(self)->task);
  Py_VISIT(as_session(self)->coroutine);
  return 0;
}

int session_clear(PyObject* self) {
  Session* session = as_session(self);
  if (session->activation != nullptr) {
    session->activation->loop = nullptr;
    session->activation->task = nullptr;
    session->activation->coroutine = nullptr;
  }
  Py_CLEAR(session->loop);
  Py_CLEAR(session->task);
  Py_CLEAR(session->coroutine);
  return 0;
}

void session_dealloc(PyObject* self) {
  Session* session = as_session(self);
  PyTypeObject* type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  if (session->activation != nullptr) {
    ErrorAside aside;
    if (!leave(session->guard, std::exchange(session->activation, nullptr))) {
      PyErr_WriteUnraisable(nullptr);
    }
  }
  Py_XDECREF(session->guard);
  Py_XDECREF(session->loop);
  Py_XDECREF(session->task);
  Py_XDECREF(session->coroutine);
  PyObject_GC_Del(self);
  Py_DECREF(type);
}

PyMethodDef g_session_methods[] = {
    {"drive", session_drive, METH_O, nullptr},      {"enter", session_enter, METH_NOARGS, nullptr},
    {"take", session_take, METH_NOARGS, nullptr},   {"convert", session_convert, METH_O, nullptr},
    {"close", session_close, METH_NOARGS, nullptr}, {nullptr, nullptr, 0, nullptr}};

PyMethodDef g_drive_methods[] = {{"send", drive_send, METH_O, nullptr},
                                 {"throw", drive_throw, METH_VARARGS, nullptr},
                                 {"close", drive_close, METH_NOARGS, nullptr},
                                 {nullptr, nullptr, 0, nullptr}};

template <typename Function>
void* slot(Function* function) {
  return reinterpret_cast<void*>(function);
}

}  // namespace

bool make_session_types(PyObject* module) {
  PyType_Slot session_slots[] = {
      {Py_tp_new, slot(&session_new)},           {Py_tp_dealloc, slot(&session_dealloc)},
      {Py_tp_traverse, slot(&session_traverse)}, {Py_tp_clear, slot(&session_clear)},
      {Py_tp_methods, g_session_methods},        {0, nullptr}};
  constexpr unsigned kFlags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC;
  PyType_Spec session{"procguard._native.Session", sizeof(Session), 0, kFlags, session_slots};
  PyType_Slot drive_slots[] = {{Py_tp_dealloc, slot(&drive_dealloc)},
                               {Py_tp_traverse, slot(&drive_traverse)},
                               {Py_tp_iter, slot(&return_self)},
                               {Py_tp_iternext, slot(&drive_next)},
                               {Py_am_await, slot(&return_self)},
                               {Py_tp_methods, g_drive_methods},
                               {0, nullptr}};
  PyType_Spec drive{"procguard._native.Drive", sizeof(Drive), 0, kFlags, drive_slots};
  g_send = PyUnicode_InternFromString("send");
  g_throw = PyUnicode_InternFromString("throw");
  g_drive_type = PyType_FromSpec(&drive);
  PyObject* session_type = PyType_FromSpec(&session);
  return g_drive_type != nullptr && session_type != nullptr &&
         PyModule_AddObject(module, "Session", session_type) == 0;
}

}  // namespace procguard::python
