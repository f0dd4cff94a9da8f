// SPDX-License-Identifier: Apache-2.0
#include "sys/cgroup_handle.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "tests/support/test_cgroup.h"

namespace procguard::sys {
namespace {

class CgroupHandle : public test::RealCgroup {
 protected:
  std::uint64_t id_of(const std::string& below) const {
    struct stat status {};
    EXPECT_EQ(::stat((path_ + below).c_str(), &status), 0) << below;
    return status.st_ino;
  }
  int error_of(std::uint64_t id, const std::string& mount) const {
    const auto found = cgroup_path_of(id, mount);
    return found ? 0 : found.error().code();
  }
};

TEST_F(CgroupHandle, FindsTheDirectory) {
  make("/deep");
  make("/deep/er");
  for (const char* below : {"", "/deep", "/deep/er"}) {
    const auto found = cgroup_path_of(id_of(below), mounts_.v2->point);
    ASSERT_TRUE(found) << found.error().message();
    EXPECT_EQ(found.value(), path_ + below);
  }
}

TEST_F(CgroupHandle, ARenewedDirectoryIsAnother) {
  make("/deep");
  const std::uint64_t id = id_of("/deep");
  ASSERT_EQ(::rmdir((path_ + "/deep").c_str()), 0);
  EXPECT_EQ(error_of(id, mounts_.v2->point), ENOENT);
  make("/deep");
  EXPECT_EQ(error_of(id, mounts_.v2->point), ENOENT);
}

TEST_F(CgroupHandle, WhatIsNoCgroup) {
  const std::string& mount = mounts_.v2->point;
  EXPECT_EQ(error_of(0, mount), ENOENT);
  EXPECT_EQ(error_of(UINT64_MAX, mount), ENOENT);
  EXPECT_EQ(error_of(id_of("/cgroup.procs"), mount), ENOENT) << "a file";
  EXPECT_EQ(error_of(id_of(""), "/tmp"), EMEDIUMTYPE);
  EXPECT_EQ(error_of(id_of(""), "/nowhere"), ENOENT);
  const auto gone = cgroup_path_of(UINT64_MAX, mount);
  EXPECT_NE(gone.error().message().find("18446744073709551615"), std::string::npos);
}

}  // namespace
}  // namespace procguard::sys
