// SPDX-License-Identifier: Apache-2.0
// Columns of text for people. Pure.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace procguard::cli {

class TextTable {
 public:
  struct Column {
    std::string head;
    bool right = false;        // numbers
    std::size_t shortest = 0;  // it may be cut to so much where the table is too wide; 0 = never
  };
  explicit TextTable(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // As many cells as there are columns.
  void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  bool empty() const { return rows_.empty(); }
  // Lines with a head; `width` 0: as wide as it gets. A cell that was cut ends with '~'.
  std::string text(std::size_t width = 0, const std::string& indent = "") const;

 private:
  std::vector<std::size_t> widths(std::size_t width) const;
  std::string line(const std::vector<std::string>& cells,
                   const std::vector<std::size_t>& widths) const;

  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace procguard::cli
