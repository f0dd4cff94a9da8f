// SPDX-License-Identifier: Apache-2.0
// What a label may be, for who asks and who is asked. Pure.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string_view>

namespace procguard::proto {

inline constexpr std::size_t kMaxLabelKey = 63;

inline bool is_label_key(std::string_view key) {
  return !key.empty() && key.size() <= kMaxLabelKey &&
         std::all_of(key.begin(), key.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '.' || c == '_' || c == '-' || c == '/';
         });
}

// On one line; UTF-8 as it is: whoever prints it escapes it.
inline bool is_label_value(std::string_view value) {
  return std::all_of(value.begin(), value.end(),
                     [](unsigned char c) { return c >= ' ' && c != 0x7f; });
}

}  // namespace procguard::proto
