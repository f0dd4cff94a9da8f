// SPDX-License-Identifier: Apache-2.0
#include "cli/labels.h"

#include <algorithm>
#include <string_view>

#include "bpf/contract.h"

namespace procguard::cli {
namespace {

bool is_label_key(std::string_view key) {
  return !key.empty() && std::all_of(key.begin(), key.end(), [](unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-' || c == '/';
  });
}

}  // namespace

void check_labels(const std::vector<std::string>& given, Checks& checks, std::string& labels) {
  std::vector<std::string> keys;
  for (const std::string& label : given) {
    const std::size_t equals = label.find('=');
    const std::string key = label.substr(0, equals);
    const bool printable = std::all_of(label.begin(), label.end(), [](unsigned char c) {
      return c >= ' ' && c != 0x7f;  // UTF-8 as it is
    });
    if (equals == std::string::npos || !is_label_key(key) || !printable) {
      return checks.fail("--label: unknown '" + label +
                         "' (expected K=V, K of letters, digits and ._-/, V on one line)");
    }
    if (std::find(keys.begin(), keys.end(), key) != keys.end()) {
      return checks.fail("--label: '" + key + "' is there twice");
    }
    keys.push_back(key);
    labels += (labels.empty() ? "" : "\n") + label;
  }
  if (labels.size() >= PG_LABELS_LEN) {
    checks.fail("--label: " + std::to_string(labels.size()) +
                " bytes of labels (expected less than " + std::to_string(PG_LABELS_LEN) + ")");
  }
}

}  // namespace procguard::cli
