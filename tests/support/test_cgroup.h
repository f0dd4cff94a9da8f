// SPDX-License-Identifier: Apache-2.0
// Cgroups of a test's own below the v2 mount, gone at its end.
#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <utility>

#include "sys/cgroup.h"
#include "sys/files.h"
#include "tests/support/processes.h"

namespace procguard::test {

// A cgroup. Its children go before it.
class TestCgroup {
 public:
  TestCgroup() : TestCgroup("") {}
  TestCgroup child(const std::string& name) const { return TestCgroup(path_ + "/" + name); }
  TestCgroup(TestCgroup&& other) noexcept : path_(std::exchange(other.path_, "")) {}
  TestCgroup& operator=(TestCgroup&&) = delete;
  ~TestCgroup();  // kills what is in it

  const std::string& path() const { return path_; }
  std::uint64_t id() const;
  void add(pid_t pid) const;

 private:
  explicit TestCgroup(std::string path);
  std::string path_;
};

// A fixture that has one. Skips where there is no v2 mount or cgroups cannot be made.
class RealCgroup : public ::testing::Test {
 protected:
  void SetUp() override {
    auto mounts = sys::read_cgroup_mounts();
    if (!mounts || !mounts.value().v2) {
      GTEST_SKIP() << "no cgroup v2 hierarchy is mounted";
    }
    mounts_ = mounts.value();
    path_ = mounts_.v2->point + "/procguard-test-" + std::to_string(::getpid());
    if (::mkdir(path_.c_str(), 0755) != 0) {
      const bool allowed = errno != EACCES && errno != EPERM && errno != EROFS;
      path_.clear();
      ASSERT_FALSE(allowed) << "mkdir in " << mounts_.v2->point;
      GTEST_SKIP() << "cgroups cannot be made here (needs root)";
    }
  }
  void TearDown() override {
    if (!path_.empty()) {
      // A cgroup is busy until its zombies are reaped.
      EXPECT_TRUE(wait_until([&] {
        ::rmdir((path_ + "/deep/er").c_str());
        ::rmdir((path_ + "/deep").c_str());
        return ::rmdir(path_.c_str()) == 0 || errno == ENOENT;
      })) << path_;
    }
  }
  void make(const std::string& below) const {
    ASSERT_EQ(::mkdir((path_ + below).c_str(), 0755), 0) << below;
  }
  void enter(const std::string& below, pid_t pid) const {
    ASSERT_TRUE(sys::write_file(path_ + below + "/cgroup.procs", std::to_string(pid)));
  }

  sys::CgroupMounts mounts_;
  std::string path_;
};

}  // namespace procguard::test
