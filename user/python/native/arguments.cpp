// SPDX-License-Identifier: Apache-2.0
#include "python/native/arguments.h"

#include <cmath>
#include <cstdint>

namespace procguard::python {
namespace {

constexpr std::int64_t kNsPerMs = 1'000'000;
constexpr std::int64_t kNsPerSecond = 1'000'000'000;
constexpr std::int64_t kLongestSeconds = 100LL * 366 * 24 * 3600;  // as the library's
constexpr long long kMostKib = 1LL << 52;

bool wrong_type(const char* name, const char* expected, PyObject* value) {
  Ref type(PyObject_GetAttrString(reinterpret_cast<PyObject*>(Py_TYPE(value)), "__name__"));
  PyErr_Format(PyExc_TypeError, "%s: expected %s, not %S", name, expected, type.get());
  return false;
}

bool given(PyObject* value) {
  return value != nullptr && value != Py_None;
}

// An int, or what counts as one (numpy's); not a bool: that is an argument in the wrong place.
Ref integer_of(PyObject* value) {
  if (PyBool_Check(value) || PyFloat_Check(value) || !PyIndex_Check(value)) {
    return Ref();
  }
  return Ref(PyNumber_Index(value));
}

// Whole or fractional units as ns. Less than 1 ns is 1: nobody who asks for a time means "default".
bool time_of(PyObject* value, const char* name, std::int64_t ns_per_unit, std::uint64_t& ns) {
  const std::int64_t most = kLongestSeconds * (kNsPerSecond / ns_per_unit);
  double units = 0;
  const Ref integer = integer_of(value);
  if (integer) {
    int overflow = 0;
    const long long whole = PyLong_AsLongLongAndOverflow(integer.get(), &overflow);
    if (overflow == 0 && whole >= 0 && whole <= most) {
      ns = static_cast<std::uint64_t>(whole) * static_cast<std::uint64_t>(ns_per_unit);
      return true;
    }
    units = overflow < 0 || (overflow == 0 && whole < 0) ? -1 : HUGE_VAL;
  } else if (PyFloat_Check(value)) {
    units = PyFloat_AsDouble(value);
  } else {
    return PyErr_Occurred() == nullptr && wrong_type(name, "a number", value);
  }
  if (std::isnan(units) || units < 0) {
    PyErr_Format(PyExc_ValueError, "%s: %R is negative or no number", name, value);
    return false;
  }
  if (units > static_cast<double>(most)) {
    PyErr_Format(PyExc_ValueError, "%s: %R is longer than 100 years", name, value);
    return false;
  }
  ns = static_cast<std::uint64_t>(units * static_cast<double>(ns_per_unit));
  return true;
}

// `*_ms` wins over seconds. False: an error.
bool either(PyObject* seconds, const char* seconds_name, PyObject* ms, const char* ms_name,
            std::uint64_t& ns) {
  // Both are checked, also the one that is not used.
  if (given(seconds) && !time_of(seconds, seconds_name, kNsPerSecond, ns)) {
    return false;
  }
  return !given(ms) || time_of(ms, ms_name, kNsPerMs, ns);
}

// As either(), where 0 in `*_ms` is the specification's default: not given.
bool either_unless_zero(PyObject* seconds, const char* seconds_name, PyObject* ms,
                        const char* ms_name, std::uint64_t& ns) {
  std::uint64_t fine = 0;
  if (!either(seconds, seconds_name, nullptr, nullptr, ns) ||
      (given(ms) && !time_of(ms, ms_name, kNsPerMs, fine))) {
    return false;
  }
  ns = fine != 0 ? fine : ns;
  return true;
}

bool flag(PyObject* value, const char* name, bool& result) {
  if (value == nullptr) {
    return true;
  }
  if (!PyLong_Check(value)) {
    return wrong_type(name, "a bool", value);
  }
  result = PyObject_IsTrue(value) == 1;
  return true;
}

bool common(PyObject* interrupt_type, PyObject* send_kill, PyObject* check_interval,
            procguard_options& options) {
  options.size = sizeof(options);
  options.interrupt_type = PROCGUARD_EXCEPTION_THEN_SIGNAL;
  if (interrupt_type != nullptr) {
    if (!PyLong_Check(interrupt_type) || PyBool_Check(interrupt_type)) {
      return wrong_type("interrupt_type", "an InterruptType", interrupt_type);
    }
    const long type = PyLong_AsLong(interrupt_type);
    if (PyErr_Occurred() != nullptr || type < 0 || type > PROCGUARD_EXCEPTION_THEN_SIGNAL) {
      PyErr_Clear();
      PyErr_Format(PyExc_ValueError, "interrupt_type: %R is no InterruptType", interrupt_type);
      return false;
    }
    options.interrupt_type = static_cast<std::uint32_t>(type);
  }
  bool kill = false;
  if (!flag(send_kill, "send_kill", kill)) {
    return false;
  }
  options.send_kill = kill ? 1 : 0;
  if (!given(check_interval)) {
    return true;
  }
  if (!time_of(check_interval, "check_interval", kNsPerMs, options.check_interval_ns)) {
    return false;
  }
  if (options.check_interval_ns < static_cast<std::uint64_t>(kNsPerMs)) {
    options.check_interval_ns = kNsPerMs;  // 0 would be the default, and less would be spinning
  }
  return true;
}

}  // namespace

bool parse_time_guard(PyObject* args, PyObject* kwargs, procguard_options& options) {
  static const char* const kNames[] = {"timeout",         "timeout_ms",     "grace_period",
                                       "grace_period_ms", "interrupt_type", "send_kill",
                                       "check_interval",  nullptr};
  PyObject* value[7] = {};
  if (PyArg_ParseTupleAndKeywords(args, kwargs, "|OOOOOOO:time_guard", const_cast<char**>(kNames),
                                  &value[0], &value[1], &value[2], &value[3], &value[4], &value[5],
                                  &value[6]) == 0) {
    return false;
  }
  if (value[0] == Py_None && !given(value[1])) {
    PyErr_SetString(PyExc_ValueError, "No timeout set");
    return false;
  }
  options.resource = PROCGUARD_TIMEOUT;
  options.limit = 60 * kNsPerSecond;
  options.step_grace_ns = 15 * kNsPerSecond;
  if (!either(value[0], "timeout", value[1], "timeout_ms", options.limit) ||
      !either(value[2], "grace_period", value[3], "grace_period_ms", options.step_grace_ns) ||
      !common(value[4], value[5], value[6], options)) {
    return false;
  }
  options.step_grace_ns =
      options.step_grace_ns == 0 ? 1 : options.step_grace_ns;  // 10 ms, not 15 s
  return true;
}

bool parse_mem_guard(PyObject* args, PyObject* kwargs, procguard_options& options) {
  static const char* const kNames[] = {"max_memory",
                                       "absolute",
                                       "grace_period",
                                       "grace_period_ms",
                                       "secondary_grace_period",
                                       "secondary_grace_period_ms",
                                       "interrupt_type",
                                       "send_kill",
                                       "check_interval",
                                       nullptr};
  PyObject* value[9] = {};
  if (PyArg_ParseTupleAndKeywords(args, kwargs, "O|OOOOOOOO:mem_guard", const_cast<char**>(kNames),
                                  &value[0], &value[1], &value[2], &value[3], &value[4], &value[5],
                                  &value[6], &value[7], &value[8]) == 0) {
    return false;
  }
  const Ref integer = integer_of(value[0]);
  if (!integer) {
    return PyErr_Occurred() == nullptr && wrong_type("max_memory", "an int (KiB)", value[0]);
  }
  int overflow = 0;
  const long long kib = PyLong_AsLongLongAndOverflow(integer.get(), &overflow);
  if (overflow != 0 || kib < 0 || kib > kMostKib) {
    PyErr_Format(PyExc_ValueError, "max_memory: %R is negative or absurdly much", value[0]);
    return false;
  }
  bool absolute = true;
  if (!flag(value[1], "absolute", absolute)) {
    return false;
  }
  options.resource = absolute ? PROCGUARD_MEMORY : PROCGUARD_MEMORY_GROWTH;
  options.limit = static_cast<std::uint64_t>(kib) * 1024;
  options.step_grace_ns = 5 * kNsPerSecond;
  if (!either_unless_zero(value[2], "grace_period", value[3], "grace_period_ms",
                          options.grace_ns) ||
      !either(value[4], "secondary_grace_period", value[5], "secondary_grace_period_ms",
              options.step_grace_ns) ||
      !common(value[6], value[7], value[8], options)) {
    return false;
  }
  options.step_grace_ns = options.step_grace_ns == 0 ? 1 : options.step_grace_ns;
  return true;
}

}  // namespace procguard::python
