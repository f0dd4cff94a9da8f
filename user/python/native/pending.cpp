// SPDX-License-Identifier: Apache-2.0
#include "python/native/pending.h"

#include <cstdint>
#include <cstdio>

namespace procguard::python {
namespace {

constexpr double kNsPerSecond = 1e9;
constexpr double kBytesPerKib = 1024.0;

// In the units of the guard's arguments: seconds, KiB.
double in_units(std::uint32_t resource, std::uint64_t value) {
  return static_cast<double>(value) / (resource == PROCGUARD_TIMEOUT ? kNsPerSecond : kBytesPerKib);
}

Ref text_of(const procguard_trip& trip) {
  const bool timeout = trip.resource == PROCGUARD_TIMEOUT;
  char text[160];
  std::snprintf(text, sizeof(text),
                timeout ? "ran for %.3f s, limit %.3f s" : "memory %.0f KiB, limit %.0f KiB",
                in_units(trip.resource, trip.observed), in_units(trip.resource, trip.limit));
  return Ref(PyUnicode_FromString(text));
}

bool set(PyObject* object, const char* name, double value) {
  Ref number(PyFloat_FromDouble(value));
  return number && PyObject_SetAttrString(object, name, number.get()) == 0;
}

// tp_new of both classes.
PyObject* raise(PyTypeObject* type, PyObject* args, PyObject*) {
  // Before 3.11 an exception that is raised once more is made anew from class and instance.
  PyObject* raised = PyTuple_Size(args) == 1 ? PyTuple_GetItem(args, 0) : nullptr;
  if (raised != nullptr && PyObject_IsInstance(raised, PyExc_BaseException) == 1) {
    return Ref::borrow(raised).release();
  }
  PyObject* as_object = reinterpret_cast<PyObject*>(type);
  Activation* activation = take_from_slot();
  procguard_trip trip{};
  if (activation == nullptr || procguard_take_entry(activation->entry, &trip) == 0) {
    // Somebody called our class, or the guard was left by another thread just now.
    return PyObject_CallNoArgs(as_object == g_names.pending_timeout
                                   ? g_names.execution_timeout
                                   : g_names.memory_limit_exceeded);
  }
  return make_exception(*activation, trip);
}

PyObject* make_class(const char* name, PyObject* base) {
  PyType_Slot slots[] = {{Py_tp_new, reinterpret_cast<void*>(&raise)}, {0, nullptr}};
  PyType_Spec spec{name, 0, 0, Py_TPFLAGS_DEFAULT, slots};
  Ref bases(PyTuple_Pack(1, base));
  return bases ? PyType_FromSpecWithBases(&spec, bases.get()) : nullptr;
}

}  // namespace

bool make_pending_classes() {
  g_names.pending_timeout = make_class("procguard.ExecutionTimeout", g_names.execution_timeout);
  g_names.pending_memory =
      make_class("procguard.MemoryLimitExceeded", g_names.memory_limit_exceeded);
  return g_names.pending_timeout != nullptr && g_names.pending_memory != nullptr;
}

PyObject* make_exception(const Activation& activation, const procguard_trip& trip) {
  const Ref text = text_of(trip);
  PyObject* type =
      activation.is_timeout ? g_names.execution_timeout : g_names.memory_limit_exceeded;
  Ref exception(text ? PyObject_CallFunctionObjArgs(type, text.get(), nullptr) : nullptr);
  if (!exception || PyObject_SetAttrString(exception.get(), "guard", activation.guard) != 0 ||
      !set(exception.get(), "limit", in_units(trip.resource, trip.limit)) ||
      !set(exception.get(), "observed", in_units(trip.resource, trip.observed)) ||
      !set(exception.get(), "elapsed", static_cast<double>(trip.elapsed_ns) / kNsPerSecond)) {
    return nullptr;
  }
  return exception.release();
}

PyObject* make_trip(const procguard_trip& trip) {
  const char* const resources[] = {"timeout", "cpu", "memory", "memory_growth"};
  return PyObject_CallFunction(
      g_names.trip, "sIiOdddOOd", resources[trip.resource & 3U], trip.step,
      static_cast<int>(trip.signal), trip.last != 0 ? Py_True : Py_False,
      in_units(trip.resource, trip.limit), in_units(trip.resource, trip.observed),
      static_cast<double>(trip.elapsed_ns) / kNsPerSecond, trip.withdrawn != 0 ? Py_True : Py_False,
      trip.action == PROCGUARD_ACTION_EXCEPTION ? Py_True : Py_False,
      static_cast<double>(trip.at_ns > trip.due_ns ? trip.at_ns - trip.due_ns : 0) / kNsPerSecond);
}

}  // namespace procguard::python
