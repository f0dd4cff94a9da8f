// SPDX-License-Identifier: Apache-2.0
// The library as others get it: installed somewhere, found by pkg-config or by cmake, linked shared
// and static, by a program in C++ and one in C (tests/e2e/consumer).
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>

#include "tests/e2e/guarded_run.h"
#include "tests/e2e/sanitizers.h"
#include "tests/support/subprocess.h"
#include "tests/support/temp_tree.h"

namespace procguard::test {
namespace {

namespace fs = std::filesystem;

const std::string kWarnings = "-Wall -Wextra -Wpedantic -Wshadow -Werror";

constexpr const char* kCppSays = "execution timeout, step 0\nmemory limit exceeded, step 0\n";
constexpr const char* kCSays = "version " PROCGUARD_VERSION ", step 0\n";

std::string source(const std::string& name) {
  return (fs::current_path() / name).string();
}

Outcome shell(const std::string& text, std::vector<std::string> env = {}) {
  Command command;
  command.argv = {"sh", "-ec", text};
  command.env = std::move(env);
  command.deadline = std::chrono::seconds(120);
  return run(command);
}

// What was built, not built anew (-o all); not a part of the make that may run us.
Outcome make(const std::string& goal, const std::string& arguments) {
  return shell("make -o all " + goal + " BUILD='" + build_dir() + "' " + arguments,
               {"MAKEFLAGS", "MFLAGS", "MAKELEVEL"});
}

// Files and links below; directories of ours count too.
Strings leftovers(const std::string& root) {
  Strings found;
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    if (!entry.is_directory() || entry.path().filename().string().find("procguard") == 0) {
      found.push_back(entry.path().string());
    }
  }
  return found;
}

class Install : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    tree_ = new TempTree;
    tree_->make_directory("work");
    // A DESTDIR that ends in the prefix: what pkg-config says has to be put below it.
    installed_ = make("install", "DESTDIR=" + root() + " PREFIX=/opt/procguard").status() == 0;
  }
  static void TearDownTestSuite() { delete tree_; }
  void SetUp() override { ASSERT_TRUE(installed_); }

  static std::string root() { return tree_->at("root"); }
  static std::string prefix() { return root() + "/opt/procguard"; }
  static std::string lib() { return prefix() + "/lib"; }

  // With pkg-config and the loader looking at what was installed, in a directory for by-products.
  static Outcome in_work(const std::string& text) {
    return shell("cd " + tree_->at("work") + "\n" + text,
                 {"PKG_CONFIG_PATH=" + lib() + "/pkgconfig", "PKG_CONFIG_SYSROOT_DIR=" + root(),
                  "LD_LIBRARY_PATH=" + lib(), "CMAKE_PREFIX_PATH=" + prefix()});
  }

 private:
  static inline TempTree* tree_ = nullptr;
  static inline bool installed_ = false;
};

TEST_F(Install, PublicHeadersCompileAlone) {
  for (const auto& header : fs::directory_iterator(prefix() + "/include/procguard")) {
    const std::string name = header.path().filename().string();
    const std::string compile = "echo '#include <procguard/" + name + ">' | gcc " + kWarnings +
                                " -fsyntax-only -I" + prefix() + "/include ";
    const Outcome cpp = in_work(compile + "-std=c++20 -x c++ -");
    EXPECT_EQ(cpp.status(), 0) << name << cpp.describe();
    if (name.ends_with(".h")) {
      const Outcome c = in_work(compile + "-std=c11 -x c -");
      EXPECT_EQ(c.status(), 0) << name << c.describe();
    }
  }
  EXPECT_TRUE(fs::exists(prefix() + "/include/procguard/procguard.h"));
  EXPECT_TRUE(fs::exists(prefix() + "/include/procguard/procguard.hpp"));
}

TEST_F(Install, ExportsWhatTheHeaderDeclaresAndNothingElse) {
  std::ifstream file(prefix() + "/include/procguard/procguard.h");
  const std::string header{std::istreambuf_iterator<char>(file), {}};
  const std::regex declaration("PROCGUARD_API [^;(]*?(procguard_[a-z_]+)\\(");
  std::set<std::string> declared;
  for (std::sregex_iterator at(header.begin(), header.end(), declaration), end; at != end; ++at) {
    declared.insert((*at)[1]);
  }
  EXPECT_GT(declared.size(), 15U);

  // The one absolute symbol is the name of the version.
  const Outcome nm = in_work("nm -D --defined-only " + lib() + "/libprocguard.so");
  ASSERT_EQ(nm.status(), 0) << nm.describe();
  std::set<std::string> exported;
  std::istringstream lines(nm.out);
  for (std::string address, type, name; lines >> address >> type >> name;) {
    if (type != "A") {
      exported.insert(name.substr(0, name.find('@')));
    }
  }
  EXPECT_EQ(exported, declared);
}

TEST_F(Install, TheSharedLibraryIsVersionedAndStaysLoaded) {
  EXPECT_EQ(fs::read_symlink(lib() + "/libprocguard.so"), "libprocguard.so.0");
  EXPECT_EQ(fs::read_symlink(lib() + "/libprocguard.so.0"), "libprocguard.so." PROCGUARD_VERSION);
  const Outcome dynamic = in_work("readelf -dW " + lib() + "/libprocguard.so." PROCGUARD_VERSION);
  ASSERT_EQ(dynamic.status(), 0) << dynamic.describe();
  EXPECT_NE(dynamic.out.find("Library soname: [libprocguard.so.0]"), std::string::npos);
  EXPECT_NE(dynamic.out.find("NODELETE"), std::string::npos) << dynamic.out;
  EXPECT_NE(dynamic.out.find("[libstdc++.so.6]"), std::string::npos) << dynamic.out;
}

TEST_F(Install, SharedByPkgConfig) {
  const Outcome cpp = in_work("g++ -std=c++20 " + kWarnings + " " + kSanitizers +
                              " -o shared_cpp " + source("tests/e2e/consumer/consumer.cpp") +
                              " $(pkg-config --cflags --libs procguard) && ./shared_cpp");
  EXPECT_EQ(cpp.out, kCppSays) << cpp.describe();
  EXPECT_EQ(cpp.status(), 0) << cpp.describe();
  const Outcome c = in_work("gcc -std=c11 " + kWarnings + " " + kSanitizers + " -o shared_c " +
                            source("tests/e2e/consumer/consumer.c") +
                            " $(pkg-config --cflags --libs procguard) && ./shared_c");
  EXPECT_EQ(c.out, kCSays) << c.describe();
  EXPECT_EQ(c.status(), 0) << c.describe();
  const Outcome version = in_work("pkg-config --modversion procguard");
  EXPECT_EQ(version.out, PROCGUARD_VERSION "\n") << version.describe();
}

// Sanitizers cannot be linked into static programs.
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
TEST_F(Install, StaticByPkgConfig) {
  const Outcome cpp =
      in_work("g++ -std=c++20 -static -o whole_cpp " + source("tests/e2e/consumer/consumer.cpp") +
              " $(pkg-config --static --cflags --libs procguard) && ./whole_cpp");
  EXPECT_EQ(cpp.out, kCppSays) << cpp.describe();
  EXPECT_EQ(cpp.status(), 0) << cpp.describe();
  const Outcome c =
      in_work("gcc -std=c11 -static -o whole_c " + source("tests/e2e/consumer/consumer.c") +
              " $(pkg-config --static --cflags --libs procguard) && ./whole_c");
  EXPECT_EQ(c.out, kCSays) << c.describe();
  EXPECT_EQ(c.status(), 0) << c.describe();
}
#endif

std::string configure(const std::string& version) {
  const std::string flags = kSanitizers;
  return "cmake -S " + source("tests/e2e/consumer") + " -B build-" + version +
         " -DWANTED_VERSION=" + version + " -DCMAKE_C_FLAGS='" + flags + "' -DCMAKE_CXX_FLAGS='" +
         flags + "'";
}

TEST_F(Install, ByCmakeSharedAndStatic) {
  const Outcome built = in_work(configure("0.1") + " && cmake --build build-0.1");
  ASSERT_EQ(built.status(), 0) << built.describe();
  for (const std::string program : {"shared_cpp", "static_cpp", "shared_c", "static_c"}) {
    const Outcome ran = in_work("build-0.1/" + program);
    EXPECT_EQ(ran.out, program.ends_with("_cpp") ? kCppSays : kCSays) << program << ran.describe();
    EXPECT_EQ(ran.status(), 0) << program << ran.describe();
    const Outcome needs = in_work("readelf -d build-0.1/" + program);
    EXPECT_EQ(needs.out.find("[libprocguard.so.0]") != std::string::npos,
              program.starts_with("shared"))
        << program << needs.describe();
  }
}

TEST_F(Install, CmakeRefusesAnotherVersion) {
  for (const std::string version : {"0.2", "1.0"}) {
    const Outcome refused = in_work(configure(version));
    EXPECT_NE(refused.status(), 0) << version << refused.describe();
    EXPECT_NE(refused.err.find("version: " PROCGUARD_VERSION), std::string::npos)
        << refused.describe();
  }
}

TEST_F(Install, UninstallLeavesNothing) {
  TempTree tree;
  const std::string where = "DESTDIR=" + tree.path() +
                            " PREFIX=/opt/elsewhere LIBDIR=/opt/elsewhere/lib/triplet"
                            " INCLUDEDIR=/opt/headers";
  const Outcome installed = make("install", where);
  ASSERT_EQ(installed.status(), 0) << installed.describe();
  EXPECT_TRUE(fs::exists(tree.at("opt/elsewhere/lib/triplet/pkgconfig/procguard.pc")));
  EXPECT_TRUE(fs::exists(tree.at("opt/headers/procguard/procguard.h")));
  EXPECT_TRUE(fs::exists(tree.at("opt/elsewhere/share/doc/procguard/guide-cpp.md")));
  EXPECT_FALSE(fs::exists(tree.at("opt/elsewhere/include")));
  const Outcome uninstalled = make("uninstall", where);
  ASSERT_EQ(uninstalled.status(), 0) << uninstalled.describe();
  EXPECT_EQ(leftovers(tree.path()), Strings{});
}

}  // namespace
}  // namespace procguard::test
