// SPDX-License-Identifier: Apache-2.0
// `procguard timeout`: a drop-in for GNU timeout, also under the name `timeout`.
//
// The flags, durations, exit codes, messages and signals are those of GNU coreutils after 9.10 and
// of POSIX.1-2024. It is on purpose no guard: it has nothing of the engine in it, opens no BPF, and
// signals the way GNU does, the child and its own process group by kill(2). The child is not reaped
// before the last signal, so no recycled pid is ever signalled.
#pragma once

namespace procguard::cli {

// argv[0] is not looked at. `program_name` stands before every message, as argv[0] does in GNU's.
// Returns the exit status, or ends this process by the signal that ended the command. Expects the
// signal state of a program just started, and no other threads.
int timeout_main(int argc, char** argv, const char* program_name);

}  // namespace procguard::cli
