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
  Activation* activation;  // nullptr: not begun, or closed
};

struct Drive {
  PyObject_HEAD Session* session;  // owned
  PyObject* work;                  // owned: has send(), throw(), close()
};

PyObject* g_drive_type = nullptr;

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
  if (session->loop != nullptr) {
    session->activation->loop = Ref::borrow(session->loop).release();
    session->activation->task = Ref::borrow(session->task).release();
  }
  return true;
}

// What is pending, as an exception to be thrown; nullptr without an error: nothing is.
Ref take_pending(Activation* activation) {
  procguard_trip trip{};
  if (procguard_take_entry(activation->entry, &trip) == 0) {
    return Ref();
  }
  return Ref(make_exception(*activation, trip));
}

PyObject* throw_into(PyObject* work, PyObject* exception) {
  return PyObject_CallMethod(work, "throw", "O", exception);
}

// The task was cancelled by us so that it wakes: our exception takes the cancellation's place.
Ref instead_of_cancellation(Activation* activation, PyObject* cancellation) {
  if (!activation->cancelled) {
    return Ref();
  }
  activation->cancelled = false;
  Ref exception = take_pending(activation);
  if (!exception) {
    return exception;
  }
  Ref done(PyObject_CallFunctionObjArgs(g_names.uncancel_task, activation->task, nullptr));
  if (!done) {
    PyErr_Clear();
  }
  if (cancellation != nullptr && PyObject_IsInstance(cancellation, PyExc_BaseException) == 1) {
    PyException_SetCause(exception.get(), Ref::borrow(cancellation).release());
  }
  return exception;
}

PyObject* after_step(Session* session, PyObject* result) {
  ErrorAside aside;
  if (session->activation != nullptr) {
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
  if (!resume(session->activation)) {
    return after_step(session, PyObject_CallMethod(work, "send", "O", value));
  }
  const Ref exception = take_pending(session->activation);
  PyObject* result = nullptr;
  if (exception) {
    result = throw_into(work, exception.get());
  } else if (PyErr_Occurred() == nullptr) {
    result = PyObject_CallMethod(work, "send", "O", value);
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
  resume(session->activation);
  PyObject* type = nullptr;
  PyObject* value = nullptr;
  PyObject* traceback = nullptr;
  if (PyArg_UnpackTuple(args, "throw", 1, 3, &type, &value, &traceback) == 0) {
    return after_step(session, nullptr);
  }
  // An instance carries its type and traceback: the three arguments are deprecated since 3.12.
  const bool instance = value != nullptr && PyObject_IsInstance(value, PyExc_BaseException) == 1;
  PyObject* exception = instance ? value : type;
  const Ref ours = instead_of_cancellation(session->activation, exception);
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

void drive_dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  Py_XDECREF(as_drive(self)->session);
  Py_XDECREF(as_drive(self)->work);
  PyObject_Free(self);
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
  auto* session = PyObject_New(Session, type);
  if (session == nullptr) {
    return nullptr;
  }
  session->guard = as_guard(Ref::borrow(guard).release());
  session->loop = task == Py_None ? nullptr : Ref::borrow(loop).release();
  session->task = task == Py_None ? nullptr : Ref::borrow(task).release();
  session->activation = nullptr;
  return reinterpret_cast<PyObject*>(session);
}

PyObject* session_drive(PyObject* self, PyObject* work) {
  auto* drive = PyObject_New(Drive, reinterpret_cast<PyTypeObject*>(g_drive_type));
  if (drive == nullptr) {
    return nullptr;
  }
  drive->session = as_session(Ref::borrow(self).release());
  drive->work = Ref::borrow(work).release();
  return reinterpret_cast<PyObject*>(drive);
}

// For `async with`: active in this task from now on, never resumed.
PyObject* session_enter(PyObject* self, PyObject*) {
  if (!begin(as_session(self))) {
    return nullptr;
  }
  stay_at_home(as_session(self)->activation);
  Py_RETURN_NONE;
}

// The exception that replaces a cancellation by us, or None.
PyObject* session_convert(PyObject* self, PyObject* cancellation) {
  Activation* activation = as_session(self)->activation;
  Ref exception;
  if (activation != nullptr) {
    exception = instead_of_cancellation(activation, cancellation);
  }
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

void session_dealloc(PyObject* self) {
  Session* session = as_session(self);
  PyTypeObject* type = Py_TYPE(self);
  if (session->activation != nullptr) {
    ErrorAside aside;
    if (!leave(session->guard, std::exchange(session->activation, nullptr))) {
      PyErr_WriteUnraisable(nullptr);
    }
  }
  Py_XDECREF(session->guard);
  Py_XDECREF(session->loop);
  Py_XDECREF(session->task);
  PyObject_Free(self);
  Py_DECREF(type);
}

PyMethodDef g_session_methods[] = {{"drive", session_drive, METH_O, nullptr},
                                   {"enter", session_enter, METH_NOARGS, nullptr},
                                   {"convert", session_convert, METH_O, nullptr},
                                   {"close", session_close, METH_NOARGS, nullptr},
                                   {nullptr, nullptr, 0, nullptr}};

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
  PyType_Slot session_slots[] = {{Py_tp_new, slot(&session_new)},
                                 {Py_tp_dealloc, slot(&session_dealloc)},
                                 {Py_tp_methods, g_session_methods},
                                 {0, nullptr}};
  PyType_Spec session{"procguard._native.Session", sizeof(Session), 0, Py_TPFLAGS_DEFAULT,
                      session_slots};
  PyType_Slot drive_slots[] = {
      {Py_tp_dealloc, slot(&drive_dealloc)}, {Py_tp_iter, slot(&return_self)},
      {Py_tp_iternext, slot(&drive_next)},   {Py_am_await, slot(&return_self)},
      {Py_tp_methods, g_drive_methods},      {0, nullptr}};
  PyType_Spec drive{"procguard._native.Drive", sizeof(Drive), 0, Py_TPFLAGS_DEFAULT, drive_slots};
  g_drive_type = PyType_FromSpec(&drive);
  PyObject* session_type = PyType_FromSpec(&session);
  return g_drive_type != nullptr && session_type != nullptr &&
         PyModule_AddObject(module, "Session", session_type) == 0;
}

}  // namespace procguard::python
