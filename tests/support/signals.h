// SPDX-License-Identifier: Apache-2.0
// Signals as a program expects them: whoever runs the tests may have had some ignored or blocked (a
// shell without job control does that to what it starts in the background). Every test binary
// begins with none ignored.
#pragma once

namespace procguard::test {

// For a command about to be executed: nothing is blocked, ignored or handled any more.
void reset_signals();

}  // namespace procguard::test
