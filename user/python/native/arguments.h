// SPDX-License-Identifier: Apache-2.0
// The arguments of time_guard() and mem_guard(), checked: false, and a TypeError or ValueError that
// names the argument.
#pragma once

#include "procguard/procguard.h"
#include "python/native/py.h"

namespace procguard::python {

bool parse_time_guard(PyObject* args, PyObject* kwargs, procguard_options& options);
bool parse_mem_guard(PyObject* args, PyObject* kwargs, procguard_options& options);

}  // namespace procguard::python
