// SPDX-License-Identifier: Apache-2.0
// Bytes of the ring become a record only if they are exactly one of ours.
#include "kernel/decode.h"

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <string>

namespace procguard::test {
namespace {

using kernel::decode_edge;

constexpr pg_edge kGood{.abi = PG_ABI, .size = sizeof(pg_edge), .watch = 7, .at_ns = 12345};

TEST(DecodeEdge, ExactRecord) {
  const auto edge = decode_edge(&kGood, sizeof(kGood));
  ASSERT_TRUE(edge);
  EXPECT_EQ(edge->watch, 7U);
  EXPECT_EQ(edge->at_ns, 12345U);
}

TEST(DecodeEdge, UnalignedRecord) {
  std::array<char, sizeof(pg_edge) + 1> bytes{};
  std::memcpy(bytes.data() + 1, &kGood, sizeof(kGood));
  const auto edge = decode_edge(bytes.data() + 1, sizeof(kGood));
  ASSERT_TRUE(edge);
  EXPECT_EQ(edge->watch, 7U);
}

// What the ring adds behind a record (padding to 8 bytes, a newer kernel side) is not looked at, as
// long as the record itself says that it has our size.
TEST(DecodeEdge, LongerBufferWithOurRecordInFront) {
  std::array<char, sizeof(pg_edge) + 8> bytes{};
  std::memcpy(bytes.data(), &kGood, sizeof(kGood));
  EXPECT_TRUE(decode_edge(bytes.data(), bytes.size()));
}

TEST(DecodeEdge, TooShort) {
  for (std::size_t size = 0; size < sizeof(pg_edge); ++size) {
    EXPECT_FALSE(decode_edge(&kGood, size)) << size << " bytes";
  }
}

struct Malformed {
  std::string name;
  pg_edge edge;
};

class DecodeMalformedEdge : public testing::TestWithParam<Malformed> {};

TEST_P(DecodeMalformedEdge, IsNone) {
  EXPECT_FALSE(decode_edge(&GetParam().edge, sizeof(pg_edge)));
}

constexpr __u32 kSize = sizeof(pg_edge);
INSTANTIATE_TEST_SUITE_P(Rows, DecodeMalformedEdge,
                         testing::Values(Malformed{"OlderAbi", {PG_ABI - 1, kSize, 7, 1}},
                                         Malformed{"NewerAbi", {PG_ABI + 1, kSize, 7, 1}},
                                         Malformed{"SaysItIsShorter", {PG_ABI, kSize - 1, 7, 1}},
                                         Malformed{"SaysItIsLonger", {PG_ABI, kSize + 8, 7, 1}},
                                         Malformed{"SizeOfEverything", {PG_ABI, 0xffffffff, 7, 1}},
                                         Malformed{"NoWatch", {PG_ABI, kSize, 0, 1}},
                                         Malformed{"Zeros", {0, 0, 0, 0}}),
                         [](const auto& row) { return row.param.name; });

}  // namespace
}  // namespace procguard::test
