// SPDX-License-Identifier: Apache-2.0
#include "agent/ended.h"

#include <gtest/gtest.h>

#include "proto/codec.h"

namespace procguard::agent {
namespace {

proto::ShowBody guard(std::uint64_t id, uid_t owner, const char* name) {
  proto::ShowBody body;
  body.row.guard.id = id;
  body.row.guard.owner_uid = owner;
  body.row.guard.ended_ns = id;
  proto::put_text(body.row.guard.name, std::string(name));
  return body;
}

std::uint64_t found(const Ended& ended, const std::string& name, std::optional<uid_t> owner) {
  const proto::ShowBody* body = ended.find(name, owner);
  return body == nullptr ? 0 : body->row.guard.id;
}

TEST(Ended, TheLastThatEndedWithANameIsFound) {
  Ended ended;
  ended.add(guard(3, 1, "job"), 0);
  ended.add(guard(2, 2, "job"), 0);
  ended.add(guard(1, 1, "job"), 0);
  ended.add(guard(4, 1, "other"), 0);
  ended.add(guard(5, 1, ""), 0);
  EXPECT_EQ(found(ended, "job", 1), 1U);
  EXPECT_EQ(found(ended, "job", 2), 2U);
  EXPECT_EQ(found(ended, "job", 3), 0U);
  EXPECT_EQ(found(ended, "job", std::nullopt), 1U);
  EXPECT_EQ(found(ended, "", 1), 0U) << "no name is nobody's";
  EXPECT_EQ(ended.find(5)->row.guard.id, 5U);
  EXPECT_EQ(ended.next_after(2)->row.guard.id, 3U);
}

TEST(Ended, TheOldestGoFirstWithTheirNames) {
  Ended ended;
  constexpr core::Ns kLater = 2 * 3600 * core::kSecond;
  ended.add(guard(1, 1, "first"), kLater);
  ended.add(guard(2, 1, "job"), kLater);
  for (std::uint64_t id = 3; id <= 1001; ++id) {
    ended.add(guard(id, 1, "job"), kLater);
  }
  EXPECT_EQ(ended.size(), 1000U);
  EXPECT_EQ(found(ended, "first", 1), 0U);
  EXPECT_EQ(found(ended, "first", std::nullopt), 0U);
  EXPECT_EQ(found(ended, "job", 1), 1001U);
}

}  // namespace
}  // namespace procguard::agent
