// SPDX-License-Identifier: Apache-2.0
// The real-time signal by which Python's main thread is told that an exception is pending. Reserved
// by the first guard that is entered there; its handler is the module's _interrupt().
#pragma once

namespace procguard::python {

// Python's main thread, by the kernel's number: when the module is imported, and in a fork's child.
void set_main_tid(int tid);
// Is this the kernel's number of it? Any thread, without the GIL.
bool is_main_tid(int tid);
// In the main thread, which alone may, with the GIL. Where it cannot be, exceptions come to the
// main thread as to any other.
void reserve_signal();
// Sends it. Without the GIL. False: none is reserved, or the program has set its handler back, and
// it would end the process.
bool interrupt_main();
// Ends a system call that the main thread waits in, so that the interpreter runs the handlers of
// signals that other threads got. Without the GIL; only for the thread that tells of steps.
void wake_main();

}  // namespace procguard::python
