// SPDX-License-Identifier: Apache-2.0
// Samples of one quantity.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace procguard::bench {

class Samples {
 public:
  void add(double value) { values_.push_back(value); }
  std::size_t count() const { return values_.size(); }

  // The smallest value that at least `percent` of the samples do not exceed. 0 without samples.
  double percentile(double percent) const {
    if (values_.empty()) {
      return 0;
    }
    std::vector<double> sorted = values_;
    std::sort(sorted.begin(), sorted.end());
    const double rank = std::ceil(percent / 100 * static_cast<double>(sorted.size()));
    return sorted[static_cast<std::size_t>(std::max(rank, 1.0)) - 1];
  }
  double median() const { return percentile(50); }
  double smallest() const { return percentile(0); }
  double largest() const { return percentile(100); }

 private:
  std::vector<double> values_;
};

}  // namespace procguard::bench
