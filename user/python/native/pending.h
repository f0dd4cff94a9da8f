// SPDX-License-Identifier: Apache-2.0
// What is set asynchronously in a thread is a class, which CPython calls, in that thread, when it
// raises it. Ours makes an exception of the public class that says which guard fired; so we also
// learn that it was raised, and not before.
#pragma once

#include "procguard/procguard.h"
#include "python/native/activation.h"
#include "python/native/py.h"

namespace procguard::python {

// Makes the two classes; false and an error.
bool make_pending_classes();
// The public exception for a step: .guard, .limit, .observed, .elapsed.
PyObject* make_exception(const Activation& activation, const procguard_trip& trip);
// A step as guard.last_trip shows it.
PyObject* make_trip(const procguard_trip& trip);

}  // namespace procguard::python
