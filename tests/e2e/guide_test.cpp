// SPDX-License-Identifier: Apache-2.0
// The guide's programs do what it says: every ```cpp or ```c block with a main() is compiled with
// warnings as errors and run, with either source of memory readings; it prints the ```text block
// that follows it.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/e2e/sanitizers.h"
#include "tests/support/subprocess.h"
#include "tests/support/temp_tree.h"

namespace procguard::test {
namespace {

struct Program {
  int line = 0;  // of its first line
  std::string language;
  std::string source;
  std::string prints;
};

std::vector<Program> programs_of(const std::string& guide) {
  std::vector<Program> programs;
  std::ifstream file(guide);
  EXPECT_TRUE(file) << guide;
  std::string fence;  // the language of the block we are in
  std::string block;
  int number = 0;
  int begin = 0;
  for (std::string line; std::getline(file, line);) {
    ++number;
    if (!line.starts_with("```")) {
      block += fence.empty() ? "" : line + "\n";
      continue;
    }
    if (fence.empty()) {
      fence = line.substr(3);
      begin = number + 1;
      continue;
    }
    if ((fence == "cpp" || fence == "c") && block.find("int main(") != std::string::npos) {
      programs.push_back({begin, fence, block, ""});
    } else if (fence == "text" && !programs.empty() && programs.back().prints.empty()) {
      programs.back().prints = block;
    }
    fence.clear();
    block.clear();
  }
  return programs;
}

TEST(Guide, ProgramsPrintWhatItSays) {
  const std::string root = std::filesystem::current_path().string();
  const auto programs = programs_of(root + "/user/docs/guide-cpp.md");
  EXPECT_GE(programs.size(), 5U);
  for (const Program& program : programs) {
    SCOPED_TRACE("guide-cpp.md:" + std::to_string(program.line));
    EXPECT_NE(program.prints, "") << "no ```text block says what it prints";
    TempTree tree;
    const bool c = program.language == "c";
    const std::string source = tree.at(c ? "program.c" : "program.cpp");
    tree.write(c ? "program.c" : "program.cpp", program.source);
    Command compile;
    compile.argv = {c ? "gcc" : "g++",
                    c ? "-std=gnu11" : "-std=c++20",
                    "-O1",
                    "-Wall",
                    "-Wextra",
                    "-Wpedantic",
                    "-Wshadow",
                    "-Werror",
                    "-pthread",
                    "-I" + root + "/user/client/include",
                    source,
                    "-o",
                    tree.at("program"),
                    "-L" + build_dir(),
                    "-Wl,-rpath," + build_dir(),
                    "-lprocguard"};
    if (*kSanitizers != '\0') {
      compile.argv.emplace_back(kSanitizers);
    }
    compile.deadline = std::chrono::seconds(120);
    const Outcome compiled = run(compile);
    ASSERT_EQ(compiled.status(), 0) << compiled.describe();
    for (const char* memory : {"auto", "procfs"}) {
      Command command;
      command.argv = {tree.at("program")};
      command.env = {std::string("PROCGUARD_SOURCE=") + memory};
      const Outcome ran = run(command);
      EXPECT_EQ(ran.status(), 0) << memory << ran.describe();
      EXPECT_EQ(ran.out, program.prints) << memory << ran.describe();
    }
  }
}

}  // namespace
}  // namespace procguard::test
