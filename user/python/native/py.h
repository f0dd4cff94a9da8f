// SPDX-License-Identifier: Apache-2.0
// Python's stable ABI from 3.9 on, and an owning pointer for its objects. All code here that
// touches objects runs under the GIL.
#pragma once

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x03090000
#include <Python.h>

#include <utility>

namespace procguard::python {

// Owns a reference, or nullptr with an error set by whoever made it.
class Ref {
 public:
  Ref() = default;
  explicit Ref(PyObject* owned) : object_(owned) {}
  static Ref borrow(PyObject* object) {
    Py_XINCREF(object);
    return Ref(object);
  }
  Ref(Ref&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  Ref& operator=(Ref&& other) noexcept {
    PyObject* old = std::exchange(object_, std::exchange(other.object_, nullptr));
    Py_XDECREF(old);
    return *this;
  }
  ~Ref() { Py_XDECREF(object_); }

  PyObject* get() const { return object_; }
  PyObject* release() { return std::exchange(object_, nullptr); }
  explicit operator bool() const { return object_ != nullptr; }

 private:
  PyObject* object_ = nullptr;
};

// Puts the error that is set aside while something else is done, and back. Before 3.12 it may be a
// class only; the instance is made now, while it is known whose it is.
class ErrorAside {
 public:
  ErrorAside() {
    PyErr_Fetch(&type_, &value_, &traceback_);
    PyErr_NormalizeException(&type_, &value_, &traceback_);
  }
  ErrorAside(const ErrorAside&) = delete;
  ErrorAside& operator=(const ErrorAside&) = delete;
  ~ErrorAside() { PyErr_Restore(type_, value_, traceback_); }

 private:
  PyObject* type_ = nullptr;
  PyObject* value_ = nullptr;
  PyObject* traceback_ = nullptr;
};

// Names of the package that the native code uses; filled when the module is imported.
struct Names {
  PyObject* execution_timeout = nullptr;
  PyObject* memory_limit_exceeded = nullptr;
  PyObject* pending_timeout = nullptr;  // what is set asynchronously: see pending.cpp
  PyObject* pending_memory = nullptr;
  PyObject* interrupt_type = nullptr;
  PyObject* trip = nullptr;  // the named tuple
  PyObject* reserve_signal = nullptr;
  PyObject* wake_task = nullptr;
  PyObject* is_users_cancellation = nullptr;
};
extern Names g_names;

}  // namespace procguard::python
