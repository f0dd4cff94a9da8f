// SPDX-License-Identifier: Apache-2.0
// Guards across shared objects that hide their symbols: a program and a library of its own, both
// with procguard.hpp, interrupt each other's waits and catch each other's exceptions.
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/e2e/sanitizers.h"
#include "tests/support/subprocess.h"
#include "tests/support/temp_tree.h"

namespace procguard::test {
namespace {

constexpr const char* kCommon = R"(
#include <chrono>
#include <condition_variable>
#include <mutex>

#include <procguard/procguard.hpp>

using namespace std::chrono_literals;

// Of the library.
PROCGUARD_API void wait_in_library();
PROCGUARD_API void guarded_by_library(void (*work)());

inline void wait_long() {
  std::mutex mutex;
  std::condition_variable_any never;
  std::unique_lock lock(mutex);
  procguard::wait(never, lock, [] { return false; });
}
)";

constexpr const char* kLibrary = R"(
#include "common.h"

void wait_in_library() {
  wait_long();
}

void guarded_by_library(void (*work)()) {
  const auto block = procguard::time_guard({.timeout = 50ms}).enter();
  work();
}
)";

constexpr const char* kProgram = R"(
#include <cstdio>

#include "common.h"

int main() {
  try {
    const auto block = procguard::time_guard({.timeout = 50ms}).enter();
    wait_in_library();
  } catch (const procguard::ExecutionTimeout& timeout) {
    std::printf("thrown in the library: %s\n", timeout.what());
  }
  try {
    guarded_by_library([] { wait_long(); });
  } catch (const procguard::GuardException& exception) {
    std::printf("guarded by the library: %s\n", exception.what());
  }
}
)";

TEST(SharedObjects, InterruptEachOthersWaits) {
  TempTree tree;
  tree.write("common.h", kCommon);
  tree.write("library.cpp", kLibrary);
  tree.write("program.cpp", kProgram);
  const std::string compile =
      "g++ -std=c++20 -Wall -Wextra -Werror -pthread -fvisibility=hidden "
      "-fvisibility-inlines-hidden " +
      std::string(kSanitizers) + " -I'" + std::filesystem::current_path().string() +
      "/user/client/include' ";
  const std::string link =
      " -L. -L'" + build_dir() + "' -lprocguard -Wl,-rpath,.,-rpath,'" + build_dir() + "'";
  Command command;
  command.argv = {"sh", "-ec",
                  "cd '" + tree.at("") + "'\n" + compile +
                      "-fPIC -shared library.cpp -o liblibrary.so" + link + "\n" + compile +
                      "program.cpp -o program -llibrary" + link + "\nexec ./program"};
  command.deadline = std::chrono::seconds(120);
  const Outcome ran = run(command);
  EXPECT_EQ(ran.status(), 0) << ran.describe();
  EXPECT_EQ(ran.out,
            "thrown in the library: execution timeout\n"
            "guarded by the library: execution timeout\n")
      << ran.describe();
}

}  // namespace
}  // namespace procguard::test
