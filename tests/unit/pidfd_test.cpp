// SPDX-License-Identifier: Apache-2.0
#include "sys/pidfd.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
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

TEST(Pidfd, TellsItsNumber) {
  Child child([] { test::pause_forever(); });
  const auto pidfd = open_pidfd(child.pid());
  ASSERT_TRUE(pidfd);
  const auto number = pid_of_pidfd(pidfd.value().get());
  ASSERT_TRUE(number) << number.error().message();
  EXPECT_EQ(number.value(), child.pid());

  ASSERT_TRUE(send_signal(pidfd.value().get(), SIGKILL));
  ASSERT_TRUE(wait_until([&] { return has_exited(pidfd.value().get()).value(); }));
  const auto zombie = pid_of_pidfd(pidfd.value().get());
  ASSERT_TRUE(zombie) << "its number is taken until it is reaped";
  EXPECT_EQ(zombie.value(), child.pid());

  child.wait();
  const auto ended = pid_of_pidfd(pidfd.value().get());
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().code(), ESRCH);
}

TEST(Pidfd, TheNumberOfAThread) {
  const auto tid = static_cast<pid_t>(::syscall(SYS_gettid));
  const auto pidfd = open_thread_pidfd(tid);
  if (!pidfd && pidfd.error().code() == EINVAL) {
    GTEST_SKIP() << "this kernel has no pidfds of threads (they came with 6.9)";
  }
  ASSERT_TRUE(pidfd) << pidfd.error().message();
  const auto number = pid_of_pidfd(pidfd.value().get());
  ASSERT_TRUE(number) << number.error().message();
  EXPECT_EQ(number.value(), tid);
}

TEST(Pidfd, OnlyAPidfdHasANumber) {
  const Fd file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const Fd directory(::open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const Fd event(::eventfd(0, EFD_CLOEXEC));
  const struct {
    const char* description;
    int fd;
    int code;
  } rows[] = {
      {"a file", file.get(), EINVAL},
      {"a directory of /proc", directory.get(), EINVAL},
      {"an eventfd", event.get(), EINVAL},
      {"no descriptor", -1, EBADF},
      {"a descriptor nobody has", 1 << 20, EBADF},
  };
  for (const auto& row : rows) {
    const auto number = pid_of_pidfd(row.fd);
    ASSERT_FALSE(number) << row.description;
    EXPECT_EQ(number.error().code(), row.code) << number.error().message();
  }
}

// /proc shows numbers of the namespace it was mounted in; of a process outside of it, 0.
TEST(Pidfd, AProcessOfNoNumberHere) {
  const auto own = open_pidfd(::getpid());
  ASSERT_TRUE(own);
  const int pidfd = own.value().get();
  Child child([pidfd] {
    if (::unshare(CLONE_NEWPID | CLONE_NEWNS) != 0) {
      ::_exit(errno == EPERM ? 2 : 3);
    }
    Child inside([pidfd] {
      if (::mount("", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
          ::mount("proc", "/proc", "proc", 0, nullptr) != 0) {
        ::_exit(4);
      }
      const auto number = pid_of_pidfd(pidfd);
      const bool said = !number && number.error().code() == ESRCH &&
                        number.error().message().find("namespace") != std::string::npos;
      ::_exit(said ? 0 : 1);
    });
    const int status = inside.wait();
    ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 5);
  });
  const int status = child.wait();
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 2) {
    GTEST_SKIP() << "pid namespaces cannot be made here (needs root)";
  }
  EXPECT_EQ(WEXITSTATUS(status), 0);
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
