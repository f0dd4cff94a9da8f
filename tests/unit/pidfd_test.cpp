// SPDX-License-Identifier: Apache-2.0
#include "sys/pidfd.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

#include <atomic>
#include <cerrno>
#include <thread>

#include "tests/support/child.h"
#include "tests/support/processes.h"

namespace procguard::sys {
namespace {

using test::Child;
using test::wait_until;

TEST(Pidfd, SignalsAndSeesTheEnd) {
  Child child([] { test::pause_forever(); });
  const auto pidfd = open_pidfd(child.pid());
  ASSERT_TRUE(pidfd);
  ASSERT_TRUE(send_signal(pidfd.value().get(), 0));
  const auto before = has_exited(pidfd.value().get());
  ASSERT_TRUE(before);
  EXPECT_FALSE(before.value());

  ASSERT_TRUE(send_signal(pidfd.value().get(), SIGTERM));
  // A zombie has ended, although it can still be signalled without effect.
  EXPECT_TRUE(wait_until([&] { return has_exited(pidfd.value().get()).value(); }));
  const int status = child.wait();
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGTERM);

  const auto after = send_signal(pidfd.value().get(), SIGTERM);
  ASSERT_FALSE(after);
  EXPECT_EQ(after.error().code(), ESRCH);
}

TEST(Pidfd, ErrorsNameThePid) {
  Child child([] {});
  const pid_t pid = child.pid();
  child.wait();
  const auto gone = open_pidfd(pid);
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().code(), ESRCH);
  EXPECT_NE(gone.error().message().find(std::to_string(pid)), std::string::npos);
  EXPECT_FALSE(open_pidfd(0));
  EXPECT_FALSE(has_exited(-1).ok() && has_exited(-1).value());
}

TEST(Pidfd, AThreadsEndIsNotItsProcessesEnd) {
  std::atomic<pid_t> tid = 0;
  std::atomic<bool> go = false;
  std::thread thread([&] {
    tid = static_cast<pid_t>(::syscall(SYS_gettid));
    while (!go) {
      std::this_thread::yield();
    }
  });
  ASSERT_TRUE(wait_until([&] { return tid != 0; }));
  const auto pidfd = open_thread_pidfd(tid);
  if (!pidfd && pidfd.error().code() == EINVAL) {
    go = true;
    thread.join();
    GTEST_SKIP() << "this kernel has no pidfds of threads (they came with 6.9)";
  }
  const bool opened = pidfd.ok();
  const bool alive = opened && !has_exited(pidfd.value().get()).value();
  go = true;
  thread.join();
  ASSERT_TRUE(opened) << pidfd.error().message();
  EXPECT_TRUE(alive);
  EXPECT_TRUE(wait_until([&] { return has_exited(pidfd.value().get()).value(); }));
}

TEST(Pidfd, AThreadSignalNeedsTheRightProcess) {
  Child child([] { test::pause_forever(); });
  EXPECT_TRUE(send_thread_signal(child.pid(), child.pid(), 0));
  const auto wrong = send_thread_signal(::getpid(), child.pid(), 0);
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().code(), ESRCH);
}

TEST(Pidfd, ADuplicateOutlivesTheOriginal) {
  Child child([] { test::pause_forever(); });
  auto pidfd = open_pidfd(child.pid());
  ASSERT_TRUE(pidfd);
  const auto copy = duplicate_fd(pidfd.value().get());
  ASSERT_TRUE(copy);
  pidfd.value().reset();
  EXPECT_TRUE(send_signal(copy.value().get(), 0));
  EXPECT_FALSE(duplicate_fd(-1));
}

TEST(Pidfd, TellsAForkFromASharedAddressSpace) {
  Child child([] { test::pause_forever(); });
  const auto forked = share_address_space(::getpid(), child.pid());
  ASSERT_TRUE(forked) << forked.error().message();
  EXPECT_FALSE(forked.value());
  const auto same = share_address_space(child.pid(), child.pid());
  ASSERT_TRUE(same);
  EXPECT_TRUE(same.value());
}

}  // namespace
}  // namespace procguard::sys
