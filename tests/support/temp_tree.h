// SPDX-License-Identifier: Apache-2.0
// TempTree: a declared tree of files in a directory of its own, gone at the end of the test.
//
//   TempTree tree{{"12/stat", "12 (a b) S ..."}, {"12/task/12/children", ""}};
//   ProcRoot proc(tree.path());
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <utility>

namespace procguard::test {

class TempTree {
 public:
  TempTree() {
    std::string pattern = (std::filesystem::temp_directory_path() / "procguard-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) {
      throw std::runtime_error("mkdtemp " + pattern);
    }
    path_ = pattern;
  }
  TempTree(std::initializer_list<std::pair<std::string, std::string>> files) : TempTree() {
    for (const auto& [name, text] : files) {
      write(name, text);
    }
  }
  TempTree(const TempTree&) = delete;
  TempTree& operator=(const TempTree&) = delete;
  ~TempTree() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  const std::string& path() const { return path_; }
  std::string at(const std::string& name) const { return path_ + "/" + name; }

  // Makes the directories above it, replaces what was there.
  void write(const std::string& name, const std::string& text) const {
    const std::filesystem::path file = at(name);
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary | std::ios::trunc) << text;
  }
  void make_directory(const std::string& name) const {
    std::filesystem::create_directories(at(name));
  }
  void link(const std::string& name, const std::string& target) const {
    const std::filesystem::path file = at(name);
    std::filesystem::create_directories(file.parent_path());
    std::filesystem::remove(file);
    std::filesystem::create_symlink(target, file);
  }
  void remove(const std::string& name) const { std::filesystem::remove_all(at(name)); }

 private:
  std::string path_;
};

}  // namespace procguard::test
