// SPDX-License-Identifier: Apache-2.0
// Words that the kernel's side changes while we look at them.
#pragma once

#include <linux/types.h>

#include <cstdint>

namespace procguard::engine {

template <typename T>
T load(const T& shared) {
  return __atomic_load_n(&shared, __ATOMIC_SEQ_CST);
}

template <typename T>
void store(T& shared, T value) {
  __atomic_store_n(&shared, value, __ATOMIC_SEQ_CST);
}

inline std::uint64_t at_least_zero(__s64 value) {
  return value > 0 ? static_cast<std::uint64_t>(value) : 0;
}

}  // namespace procguard::engine
