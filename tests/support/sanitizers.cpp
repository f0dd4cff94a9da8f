// SPDX-License-Identifier: Apache-2.0
// Under AddressSanitizer: freed memory is kept back for a while; by default so much that the test
// binary, whose forks are guarded, grows over what tests of memory limits work with.
#ifdef __SANITIZE_ADDRESS__
extern "C" const char* __asan_default_options() {
  return "quarantine_size_mb=8";
}
#endif
