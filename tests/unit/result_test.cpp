// SPDX-License-Identifier: Apache-2.0
#include "core/result.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>

namespace procguard {
namespace {

Result<int> half(int value) {
  if (value % 2 != 0) {
    return Error("halving " + std::to_string(value) + ": it is odd");
  }
  return value / 2;
}

Result<void> check(bool good) {
  if (!good) {
    return Error::system("open(/nowhere)", ENOENT);
  }
  return {};
}

TEST(Result, HoldsAValueOrAnError) {
  auto good = half(8);
  ASSERT_TRUE(good);
  EXPECT_TRUE(good.ok());
  EXPECT_EQ(good.value(), 4);
  auto bad = half(7);
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().message(), "halving 7: it is odd");
  EXPECT_EQ(bad.error().code(), 0);
}

TEST(Result, ErrorsOfTheSystemSayWhatAndWhy) {
  auto bad = check(false);
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().code(), ENOENT);
  EXPECT_EQ(bad.error().message(), "open(/nowhere): No such file or directory");
  EXPECT_TRUE(check(true));
}

TEST(Result, ContextIsAddedInFrontAndKeepsTheCode) {
  const Error error = check(false).error().in("reading the policy").in("starting");
  EXPECT_EQ(error.message(),
            "starting: reading the policy: open(/nowhere): No such file or directory");
  EXPECT_EQ(error.code(), ENOENT);
}

TEST(Result, MovesWhatCannotBeCopied) {
  Result<std::unique_ptr<int>> made = std::make_unique<int>(5);
  ASSERT_TRUE(made);
  EXPECT_EQ(**made.operator->(), 5);
  const std::unique_ptr<int> taken = std::move(made).value();
  EXPECT_EQ(*taken, 5);
}

}  // namespace
}  // namespace procguard
