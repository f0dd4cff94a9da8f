// SPDX-License-Identifier: Apache-2.0
#include "python/native/warn.h"

#include <string.h>

#include <cstdint>
#include <cstdio>
#include <ctime>

#include "python/native/py.h"

namespace procguard::python {
namespace {

// A thread gives the GIL up every 5 ms; longer than this, somebody held it.
constexpr std::uint64_t kLateNs = 1'000'000'000;

const char* what(const procguard_trip& trip) {
  return trip.resource == PROCGUARD_TIMEOUT ? "execution timeout" : "memory limit";
}

// A warning that is turned into an exception has nowhere to go here.
void warn(const char* text) {
  if (PyErr_WarnEx(PyExc_RuntimeWarning, text, 1) != 0) {
    PyErr_WriteUnraisable(nullptr);
  }
}

}  // namespace

void warn_if_late(const procguard_trip& trip) {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  const std::uint64_t now_ns = static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000U +
                               static_cast<std::uint64_t>(now.tv_nsec);
  if (now_ns < trip.at_ns + kLateNs) {
    return;
  }
  char text[160];
  std::snprintf(text, sizeof(text),
                "procguard: %s: the exception was undelivered for %.1f s: a native call held the "
                "GIL, or many "
                "threads wanted it",
                what(trip), static_cast<double>(now_ns - trip.at_ns) / 1e9);
  warn(text);
}

void warn_last_step(const procguard_trip& trip) {
  char text[160];
  if (trip.action == PROCGUARD_ACTION_EXCEPTION) {
    std::snprintf(text, sizeof(text),
                  "procguard: %s: the last exception was sent; the block is unguarded now",
                  what(trip));
  } else {
    std::snprintf(text, sizeof(text),
                  "procguard: %s: the last signal (SIG%s) was sent; the block is unguarded now",
                  what(trip), ::sigabbrev_np(static_cast<int>(trip.signal)));
  }
  warn(text);
}

}  // namespace procguard::python
