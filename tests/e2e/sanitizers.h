// SPDX-License-Identifier: Apache-2.0
// How a program has to be compiled that links what was built beside these tests.
#pragma once

namespace procguard::test {

#if defined(__SANITIZE_THREAD__)
inline constexpr const char* kSanitizers = "-fsanitize=thread";
#elif defined(__SANITIZE_ADDRESS__)
inline constexpr const char* kSanitizers = "-fsanitize=address,undefined";
#else
inline constexpr const char* kSanitizers = "";
#endif

}  // namespace procguard::test
