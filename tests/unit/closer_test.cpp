// SPDX-License-Identifier: Apache-2.0
#include "sys/closer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/support/lingering_socket.h"
#include "tests/support/processes.h"

namespace procguard::sys {
namespace {

constexpr std::uint32_t kSlow = 1;
constexpr std::uint32_t kOther = 2;

Fd something() {
  return Fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
}

TEST(Closer, ClosesAndForgets) {
  Closer closer;
  EXPECT_EQ(closer.waiting(kOther), 0U);
  Fd fd = something();
  const int number = fd.get();
  closer.close(std::move(fd), kOther);
  EXPECT_TRUE(test::wait_until([&] { return closer.waiting(kOther) == 0; }));
  EXPECT_EQ(::fcntl(number, F_GETFD), -1);
  closer.close(Fd(), kOther);
  EXPECT_EQ(closer.waiting(kOther), 0U) << "nothing is nothing to close";
}

TEST(Closer, OneThatTakesLongHoldsNobodyUp) {
  Closer closer;
  const auto begin = std::chrono::steady_clock::now();
  std::vector<test::LingeringSocket> slow;
  for (int i = 0; i < 4; ++i) {
    slow.emplace_back(20);
    closer.close(slow.back().take(), kSlow);
  }
  closer.close(something(), kOther);
  EXPECT_TRUE(test::wait_until([&] { return closer.waiting(kOther) == 0; }));
  EXPECT_EQ(closer.waiting(kSlow), 4U);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(15));
  slow.clear();  // the other end goes: nothing is left to wait for
  EXPECT_TRUE(test::wait_until([&] { return closer.waiting(kSlow) == 0; }));
}

TEST(Closer, MoreThanItHasThreadsForStayCounted) {
  Closer closer;
  std::vector<test::LingeringSocket> slow;
  for (int i = 0; i < 12; ++i) {
    slow.emplace_back(20);
    closer.close(slow.back().take(), kSlow);
  }
  closer.close(something(), kOther);
  EXPECT_EQ(closer.waiting(kSlow), 12U);
  EXPECT_EQ(closer.waiting(kOther), 1U);
  slow.clear();
  EXPECT_TRUE(
      test::wait_until([&] { return closer.waiting(kOther) + closer.waiting(kSlow) == 0; }));
}

}  // namespace
}  // namespace procguard::sys
