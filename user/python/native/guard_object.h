// SPDX-License-Identifier: Apache-2.0
// TimeGuard and MemGuard as Python sees them.
#pragma once

#include "procguard/procguard.h"
#include "python/native/activation.h"
#include "python/native/py.h"

namespace procguard::python {

struct GuardObject {
  PyObject_HEAD procguard_guard* native;
  Activation* activations;  // the latest first
  bool is_timeout;
  PyObject* args;    // as it was made, for pickle and repr; a tuple
  PyObject* kwargs;  // a dict or nullptr
};

// Makes the types TimeGuard and MemGuard; false and an error.
bool make_guard_types(PyObject* module);
bool is_guard(PyObject* object);
inline GuardObject* as_guard(PyObject* object) {
  return reinterpret_cast<GuardObject*>(object);
}

// time_guard(...), mem_guard(...).
PyObject* time_guard(PyObject* module, PyObject* args, PyObject* kwargs);
PyObject* mem_guard(PyObject* module, PyObject* args, PyObject* kwargs);

// Makes the guard active; nullptr and an error.
Activation* enter(GuardObject* guard, bool suspended);
// Ends an activation of it; false and an error.
bool leave(GuardObject* guard, Activation* activation);

}  // namespace procguard::python
