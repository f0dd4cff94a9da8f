// SPDX-License-Identifier: Apache-2.0
//
// procguard for C++20: guards for blocks of code. Header-only over the C ABI of procguard.h; link
// with libprocguard (pkg-config procguard, or find_package(procguard)).
//
//   auto guard = procguard::time_guard({.timeout = 10s});
//   {
//     auto block = guard.enter();
//     for (const auto& record : records) {
//       parse(record);
//       block.progress();              // the 10 s begin anew
//     }
//   }
//   auto guarded = procguard::time_guard({.timeout = 10s})(parse);   // or as a decorator
//   guarded(document);
//
// When a limit is broken the ladder begins: by default an exception, then SIGINT, then SIGTERM to
// the guarded thread. Exceptions are thrown by progress(), checkpoint() and the interruptible
// waits, and nothing else: a loop that should be interruptible calls one of them. An exception step
// also breaks a blocking system call of the thread (EINTR).
//
// Durations are std::chrono, sizes `Bytes` (64_MiB). Guards may be used by many threads at once and
// again and again; a Block belongs to the thread that entered it, but may be destroyed by any.
#pragma once

#include <procguard/exceptions.hpp>
#include <procguard/guard.hpp>
#include <procguard/mem_guard.hpp>
#include <procguard/progress.hpp>
#include <procguard/time_guard.hpp>
#include <procguard/types.hpp>
#include <procguard/wait.hpp>
