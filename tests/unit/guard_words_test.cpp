// SPDX-License-Identifier: Apache-2.0
// How users call guards and times.
#include "cli/guard_words.h"

#include <gtest/gtest.h>

#include <string>

#include "core/clock.h"
#include "proto/codec.h"

namespace procguard::cli {
namespace {

TEST(GuardWords, ANumberOrAName) {
  struct Row {
    const char* text;
    std::uint64_t id;
    const char* name;
  };
  const Row rows[] = {
      {"g12", 12, ""},           {"12", 12, ""},    {"g18446744073709551615", UINT64_MAX, ""},
      {"nightly", 0, "nightly"}, {"g", 0, "g"},     {"g12x", 0, "g12x"},
      {"12x", 0, "12x"},         {"G12", 0, "G12"}, {"-x", 0, "-x"},
      {"[a,b]", 0, "[a,b]"},     {"gg1", 0, "gg1"},
  };
  for (const Row& row : rows) {
    const auto guard = parse_guard(row.text);
    ASSERT_TRUE(guard) << row.text;
    EXPECT_EQ(guard->id, row.id) << row.text;
    EXPECT_EQ(proto::get_text(guard->name), row.name) << row.text;
    EXPECT_EQ(is_guard_number(row.text), row.id != 0) << row.text;
  }
}

TEST(GuardWords, NoGuard) {
  const std::string rows[] = {"",
                              "0",
                              "g0",
                              "18446744073709551616",
                              "g99999999999999999999999999",
                              "a b",
                              "a\nb",
                              "\x1b[2J",
                              "\xc3\xa4",
                              std::string(PG_NAME_LEN, 'n'),
                              std::string("a\0b", 3)};
  for (const std::string& row : rows) {
    const auto guard = parse_guard(row);
    ASSERT_FALSE(guard) << row;
    EXPECT_NE(guard.error().message().find("expected"), std::string::npos);
    EXPECT_EQ(guard.error().message().find('\n'), std::string::npos);
  }
}

constexpr std::uint64_t kNow = 1'800'000'000 * core::kSecond;

TEST(GuardWords, Times) {
  struct Row {
    const char* text;
    std::uint64_t seq;
    std::uint64_t real_ns;
  };
  const Row rows[] = {
      {"10m", 0, kNow - 600 * core::kSecond},
      {"1.5s", 0, kNow - 1500 * core::kMillisecond},
      {"0", 0, kNow},
      {"inf", 0, kNow - INT64_MAX > kNow ? 0 : kNow - INT64_MAX},
      {"@0", 0, 0},
      {"@17", 17, 0},
      {"@18446744073709551615", UINT64_MAX, 0},
      {"1970-01-01T00:00:00Z", 0, 0},
      {"2026-01-31T12:00:00Z", 0, 1'769'860'800 * core::kSecond},
      {"2024-02-29T23:59:59Z", 0, 1'709'251'199 * core::kSecond},
      {"2026-01-31T12:00:00.5Z", 0, 1'769'860'800'500'000'000},
      {"2026-01-31T12:00:00.000000001Z", 0, 1'769'860'800'000'000'001},
  };
  for (const Row& row : rows) {
    const auto since = parse_when(row.text, kNow);
    ASSERT_TRUE(since) << row.text << ": " << since.error().message();
    EXPECT_EQ(since->seq, row.seq) << row.text;
    EXPECT_EQ(since->real_ns, row.real_ns) << row.text;
  }
}

TEST(GuardWords, NoTimes) {
  const char* rows[] = {"",
                        "soon",
                        "-1s",
                        "@",
                        "@x",
                        "@-1",
                        "@1 ",
                        "@18446744073709551616",
                        "2026-01-31",
                        "2026-01-31T12:00:00",
                        "2026-01-31 12:00:00Z",
                        "2026-13-01T00:00:00Z",
                        "2026-02-30T00:00:00Z",
                        "2026-01-31T24:00:00Z",
                        "2026-01-31T12:60:00Z",
                        "2026-01-31T12:00:61Z",
                        "2026-01-31T12:00:00.Z",
                        "2026-01-31T12:00:00.1234567890Z",
                        "2026-01-31T12:00:00+01:00",
                        "2026-01-31T12:00:00ZZ",
                        "9999-01-31T12:00:00Z",
                        "1969-12-31T23:59:59Z",
                        "202-01-31T12:00:00Z",
                        "2026-1-31T12:00:00Z",
                        "2026-01-31T12:00:0\nZ"};
  for (const char* row : rows) {
    const auto since = parse_when(row, kNow);
    ASSERT_FALSE(since) << row;
    EXPECT_NE(since.error().message().find("@SEQ"), std::string::npos) << row;
  }
}

}  // namespace
}  // namespace procguard::cli
