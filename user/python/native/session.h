// SPDX-License-Identifier: Apache-2.0
// Session: a guard over work that pauses: coroutines and generators. Active from its first step to
// close(), suspended between steps. It drives an iterator by steps of native code only: where no
// bytecode of ours runs, no asynchronous exception can be raised but in the guarded code.
#pragma once

#include "python/native/py.h"

namespace procguard::python {

// Makes the types _Session and _Drive; false and an error.
bool make_session_types(PyObject* module);

}  // namespace procguard::python
