// SPDX-License-Identifier: Apache-2.0
// Under AddressSanitizer: freed memory is kept back for a while; by default so much that the test
// binary, whose forks are guarded, grows over what tests of memory limits work with, and so does an
// agent that is not to grow. The programs that tests start inherit it.
#ifdef __SANITIZE_ADDRESS__
#include <cstdlib>

extern "C" const char* __asan_default_options() {
  return "quarantine_size_mb=8";
}

namespace {
[[maybe_unused]] const int inherited = ::setenv("ASAN_OPTIONS", __asan_default_options(), 0);
}
#endif
