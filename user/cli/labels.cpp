// SPDX-License-Identifier: Apache-2.0
#include "cli/labels.h"

#include <algorithm>

#include "bpf/contract.h"
#include "proto/labels.h"

namespace procguard::cli {
void check_labels(const std::vector<std::string>& given, Checks& checks, std::string& labels) {
  std::vector<std::string> keys;
  for (const std::string& label : given) {
    const std::size_t equals = label.find('=');
    const std::string key = label.substr(0, equals);
    if (equals == std::string::npos || !proto::is_label_key(key) ||
        !proto::is_label_value(label.substr(equals + 1))) {
      return checks.fail("--label: unknown '" + label + "' (expected K=V, K of 1 to " +
                         std::to_string(proto::kMaxLabelKey) +
                         " letters, digits and ._-/, V on one line)");
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
