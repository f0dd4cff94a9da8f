// SPDX-License-Identifier: Apache-2.0
// RuntimeWarnings that guards give.
#pragma once

#include "procguard/procguard.h"

namespace procguard::python {

// The exception of a step could not be brought for long: a native call held the GIL.
void warn_if_late(const procguard_trip& trip);
// The ladder has ended; the block is unguarded from now on.
void warn_last_step(const procguard_trip& trip);

}  // namespace procguard::python
