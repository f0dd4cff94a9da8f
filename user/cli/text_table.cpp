// SPDX-License-Identifier: Apache-2.0
#include "cli/text_table.h"

#include <algorithm>
#include <numeric>

namespace procguard::cli {

std::vector<std::size_t> TextTable::widths(std::size_t width) const {
  std::vector<std::size_t> widths;
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    std::size_t widest = columns_[i].head.size();
    for (const auto& row : rows_) {
      widest = std::max(widest, row[i].size());
    }
    widths.push_back(widest);
  }
  const std::size_t all =
      std::accumulate(widths.begin(), widths.end(), widths.empty() ? 0 : widths.size() - 1);
  std::size_t excess = width != 0 && all > width ? all - width : 0;
  // The widest of those that may be cut yields, a character at a time.
  for (; excess != 0; --excess) {
    std::size_t widest = columns_.size();
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      const bool yields = columns_[i].shortest != 0 && widths[i] > columns_[i].shortest;
      if (yields && (widest == columns_.size() || widths[i] > widths[widest])) {
        widest = i;
      }
    }
    if (widest == columns_.size()) {
      break;  // all that may be cut is
    }
    widths[widest]--;
  }
  return widths;
}

std::string TextTable::line(const std::vector<std::string>& cells,
                            const std::vector<std::size_t>& widths) const {
  std::string line;
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    std::string cell = cells[i];
    if (cell.size() > widths[i]) {
      cell.resize(widths[i]);
      cell.back() = '~';
    }
    const std::string blanks(widths[i] - cell.size(), ' ');
    line += (i == 0 ? "" : " ") + (columns_[i].right ? blanks + cell : cell + blanks);
  }
  line.erase(line.find_last_not_of(' ') + 1);
  return line + "\n";
}

std::string TextTable::text(std::size_t width, const std::string& indent) const {
  const std::vector<std::size_t> widths = this->widths(width);
  std::vector<std::string> heads;
  for (const Column& column : columns_) {
    heads.push_back(column.head);
  }
  std::string text = indent + line(heads, widths);
  for (const auto& row : rows_) {
    text += indent + line(row, widths);
  }
  return text;
}

}  // namespace procguard::cli
