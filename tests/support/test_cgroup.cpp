// SPDX-License-Identifier: Apache-2.0
#include "tests/support/test_cgroup.h"

#include <atomic>
#include <fstream>

namespace procguard::test {

TestCgroup::TestCgroup(std::string path) : path_(std::move(path)) {
  static std::atomic<int> count{0};
  if (path_.empty()) {
    const auto mounts = sys::read_cgroup_mounts();
    const std::string root = mounts && mounts->v2 ? mounts->v2->point : "/sys/fs/cgroup";
    path_ = root + "/procguard-test-" + std::to_string(::getpid()) + "-" + std::to_string(++count);
  }
  if (::mkdir(path_.c_str(), 0755) != 0) {
    ADD_FAILURE() << "mkdir " << path_;
  }
}

TestCgroup::~TestCgroup() {
  if (path_.empty()) {
    return;
  }
  std::ofstream(path_ + "/cgroup.kill") << "1";
  const bool gone = wait_until([this] { return ::rmdir(path_.c_str()) == 0; });
  EXPECT_TRUE(gone) << path_ << " could not be removed";
}

std::uint64_t TestCgroup::id() const {
  struct stat status {};
  ::stat(path_.c_str(), &status);
  return status.st_ino;
}

void TestCgroup::add(pid_t pid) const {
  std::ofstream procs(path_ + "/cgroup.procs");
  procs << pid << std::flush;
  EXPECT_TRUE(procs.good()) << "moving " << pid << " to " << path_;
}

}  // namespace procguard::test
