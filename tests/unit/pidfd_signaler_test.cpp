// SPDX-License-Identifier: Apache-2.0
#include "engine/pidfd_signaler.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "sys/pidfd.h"
#include "tests/support/child.h"
#include "tests/support/temp_tree.h"
#include "tests/support/test_cgroup.h"

namespace procguard::engine {
namespace {

using test::Child;
using test::RealCgroup;

TEST(PidfdSignaler, SignalsAProcess) {
  Child child([] { test::pause_forever(); });
  const auto pidfd = sys::open_pidfd(child.pid());
  ASSERT_TRUE(pidfd);
  PidfdSignaler signaler;
  ASSERT_TRUE(signaler.send(pidfd.value().get(), SIGINT));
  EXPECT_EQ(WTERMSIG(child.wait()), SIGINT);
  const auto gone = signaler.send(pidfd.value().get(), SIGINT);
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().code(), ESRCH);
}

TEST(PidfdSignaler, SignalsAThreadOfTheRightProcessOnly) {
  Child child([] { test::pause_forever(); });
  PidfdSignaler signaler;
  const auto wrong = signaler.send_thread(::getpid(), child.pid(), SIGTERM);
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().code(), ESRCH);
  ASSERT_TRUE(signaler.send_thread(child.pid(), child.pid(), SIGTERM));
  EXPECT_EQ(WTERMSIG(child.wait()), SIGTERM);
}

TEST(PidfdSignaler, SaysWhenItIsNotPermitted) {
  Child victim([] { test::pause_forever(); });
  const auto pidfd = sys::open_pidfd(victim.pid());
  ASSERT_TRUE(pidfd);
  if (::getuid() != 0) {
    GTEST_SKIP() << "needs root to become somebody else";
  }
  Child sender([&] {
    const bool changed = ::setuid(65534) == 0;
    const auto sent = PidfdSignaler().send(pidfd.value().get(), SIGTERM);
    ::_exit(changed && !sent && sent.error().code() == EPERM ? 0 : 1);
  });
  const int status = sender.wait();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

std::uint64_t id_of(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 ? status.st_ino : 0;
}

TEST(PidfdSignaler, KillsNoDirectoryThatIsNotACgroup) {
  const test::TempTree tree{{"cgroup.kill", ""}, {"cgroup.procs", ""}};
  EXPECT_FALSE(PidfdSignaler().kill_cgroup(tree.path(), 1));
  const auto missing = PidfdSignaler().kill_cgroup(tree.at("nothing"), 1);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code(), ENOENT);
}

TEST_F(RealCgroup, SignalerKillsAllInACgroup) {
  make("/deep");
  Child one([] { test::pause_forever(); });
  Child below([] { test::pause_forever(); });
  enter("", one.pid());
  enter("/deep", below.pid());
  // Another directory under the same path would have another id.
  const auto stranger = PidfdSignaler().kill_cgroup(path_, id_of(path_) + 1);
  ASSERT_FALSE(stranger);
  EXPECT_EQ(stranger.error().code(), ESRCH);
  ASSERT_TRUE(PidfdSignaler().kill_cgroup(path_, id_of(path_)));
  EXPECT_EQ(WTERMSIG(one.wait()), SIGKILL);
  EXPECT_EQ(WTERMSIG(below.wait()), SIGKILL);
}

TEST_F(RealCgroup, SignalerSparesTheCgroupItIsIn) {
  Child inside([&] {
    const bool entered = sys::write_file(path_ + "/cgroup.procs", std::to_string(::getpid())).ok();
    const auto killed = PidfdSignaler().kill_cgroup(path_, id_of(path_));
    ::_exit(entered && !killed && killed.error().code() == EPERM ? 0 : 1);
  });
  const int status = inside.wait();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

}  // namespace
}  // namespace procguard::engine
