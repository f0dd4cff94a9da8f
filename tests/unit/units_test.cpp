// SPDX-License-Identifier: Apache-2.0
#include "core/units.h"

#include <gtest/gtest.h>

#include <clocale>
#include <string>

namespace procguard::core {
namespace {

constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kSecond = 1000 * kMs;

struct DurationRow {
  const char* text;
  uint64_t ns;
};

constexpr DurationRow kGnuDurations[] = {
    {"0", 0},
    {"0.0s", 0},
    {"-0", 0},
    {"10", 10 * kSecond},
    {"10s", 10 * kSecond},
    {"1.5m", 90 * kSecond},
    {"2h", 7200 * kSecond},
    {"1d", 86400 * kSecond},
    {".5", 500 * kMs},
    {"1.", kSecond},
    {"+1", kSecond},
    {" 1", kSecond},
    {"\t1", kSecond},
    {"1e3", 1000 * kSecond},
    {"1E-3", kMs},
    {"1e+2s", 100 * kSecond},
    {"0x10", 16 * kSecond},
    {"0x1p-1", 500 * kMs},
    {"0X1.8P1s", 3 * kSecond},
    {"0x10d", 269 * kSecond},  // d is a hexadecimal digit here
    {"0x.8", 500 * kMs},
    // Exact, whatever a double would make of it.
    {"0.1", 100 * kMs},
    {"0.3", 300 * kMs},
    {"1.1", 1100 * kMs},
    {"16777216.000000001", 16777216 * kSecond + 1},
    {"1234567890.123456789", 1234567890 * kSecond + 123456789},
    // Never early: the next nanosecond, and not zero.
    {"0.0000000001", 1},
    {"1.0000000001", kSecond + 1},
    {"1e-400", 1},
    {"1e-99999999999", 1},
    {"0x1p-9999", 1},
    {"0.00000000000000000000000000000000000000000000000000001", 1},
    {"1.00000000000000000000000000000000000000000000000000001", kSecond + 1},
    {"0.30000000000000000000000000000000000000000000000000000", 300 * kMs},
    // Too long to count.
    {"inf", kForeverNs},
    {"INFINITY", kForeverNs},
    {"infd", kForeverNs},
    {"1e400", kForeverNs},
    {"1e99999999999999999999d", kForeverNs},
    {"0x1p5000", kForeverNs},
    {"99999999999999999999999999999999999999", kForeverNs},
    {"9223372036.854775807", kForeverNs},
    {"9223372036.854775806", kForeverNs - 1},
    {"18446744073.709551616", kForeverNs},
    {"106751991167d", kForeverNs},
    {"0e99999999999", 0},
};

TEST(Units, ParsesDurationsAsGnuDoes) {
  for (const DurationRow& row : kGnuDurations) {
    for (auto* parse : {&parse_gnu_duration, &parse_duration}) {
      auto ns = parse(row.text);
      ASSERT_TRUE(ns.ok()) << row.text << ": " << ns.error().message();
      EXPECT_EQ(ns.value(), row.ns) << row.text;
    }
  }
}

TEST(Units, ParsesMillisecondsAndMicroseconds) {
  constexpr DurationRow kRows[] = {
      {"300ms", 300 * kMs}, {"1.5ms", kMs + kMs / 2}, {"10us", 10'000},       {"0.0001us", 1},
      {"0x10ms", 16 * kMs}, {"infus", kForeverNs},    {"1e3ms", 1 * kSecond}, {"0ms", 0}};
  for (const DurationRow& row : kRows) {
    auto ns = parse_duration(row.text);
    ASSERT_TRUE(ns.ok()) << ns.error().message();
    EXPECT_EQ(ns.value(), row.ns) << row.text;
    EXPECT_FALSE(parse_gnu_duration(row.text).ok()) << row.text;
  }
}

TEST(Units, RefusesWhatIsNoDuration) {
  for (std::string text :
       {"",    " ",   ".",   "s",    "-1",    "-0.1", "-inf", "nan", "1x",   "1S",
        "1 ",  "1 s", "1ss", "1sm",  "1e",    "1e+",  "0x",   "0xg", "0x1p", "1,5",
        "--1", "+-1", "ten", "1..2", "1.2.3", "ns",   "1ns",  "1M"}) {
    for (auto* parse : {&parse_gnu_duration, &parse_duration}) {
      auto ns = parse(text);
      ASSERT_FALSE(ns.ok()) << text << " was taken as " << ns.value();
      EXPECT_NE(ns.error().message().find("\"" + text + "\""), std::string::npos);
      EXPECT_NE(ns.error().message().find("expected"), std::string::npos);
    }
  }
  EXPECT_FALSE(parse_duration(std::string_view("1\0s", 3)).ok());
  EXPECT_FALSE(parse_duration(std::string(100000, 'e')).ok());
}

TEST(Units, DoesNotDependOnTheLocale) {
  const std::string before = std::setlocale(LC_ALL, nullptr);
  // Where no such locale is installed the C locale stays, and the expectations hold all the same.
  std::setlocale(LC_ALL, "de_DE.UTF-8");
  EXPECT_EQ(parse_duration("1.5").value(), 1500 * kMs);
  EXPECT_FALSE(parse_duration("1,5").ok());
  EXPECT_EQ(format_duration(1500 * kMs), "1.5s");
  EXPECT_EQ(format_size(1536), "1.5KiB");
  std::setlocale(LC_ALL, before.c_str());
}

TEST(Units, ParsesSizes) {
  constexpr uint64_t k = 1024;
  const struct {
    const char* text;
    uint64_t bytes;
  } rows[] = {{"64M", 64 * k * k},
              {"64m", 64 * k * k},
              {"64Mi", 64 * k * k},
              {"64MiB", 64 * k * k},
              {"64mib", 64 * k * k},
              {"1K", k},
              {"2G", 2 * k * k * k},
              {"3T", 3 * k * k * k * k},
              {"1.5G", 3 * k * k * k / 2},
              {".5K", k / 2},
              {"0.1K", 103},  // up to the next byte
              {"4096B", 4096},
              {"1b", 1},
              {"0M", 0},
              {"0B", 0},
              {"9223372036854775807B", INT64_MAX},
              {"8388607T", 8388607 * k * k * k * k}};
  for (const auto& row : rows) {
    auto bytes = parse_size(row.text);
    ASSERT_TRUE(bytes.ok()) << bytes.error().message();
    EXPECT_EQ(bytes.value(), row.bytes) << row.text;
  }
}

TEST(Units, RefusesWhatIsNoSize) {
  const struct {
    const char* text;
    const char* says;
  } rows[] = {{"", "expected a number with a unit"},
              {"M", "expected a number with a unit"},
              {"-1M", "expected a number with a unit"},
              {"+1M", "expected a number with a unit"},
              {" 1M", "expected a number with a unit"},
              {"inf", "expected a number with a unit"},
              {"64", "a unit is needed"},
              {"0", "a unit is needed"},
              {"1.5", "a unit is needed"},
              {"64KB", "unknown unit \"KB\""},
              {"64MB", "unknown unit \"MB\""},
              {"64Mx", "unknown unit"},
              {"64MiBs", "unknown unit"},
              {"64 M", "unknown unit"},
              {"64P", "unknown unit"},
              {"1e3M", "unknown unit"},
              {"0x10M", "unknown unit"},
              {"1.2.3M", "unknown unit"},
              {"64%", "unknown unit"},
              {"8388608T", "too large"},
              {"9223372036854775808B", "too large"},
              {"99999999999999999999999999999999999999999999999K", "too large"}};
  for (const auto& row : rows) {
    auto bytes = parse_size(row.text);
    ASSERT_FALSE(bytes.ok()) << row.text << " was taken as " << bytes.value();
    EXPECT_NE(bytes.error().message().find(row.says), std::string::npos) << bytes.error().message();
    EXPECT_NE(bytes.error().message().find("\"" + std::string(row.text) + "\""), std::string::npos);
  }
}

TEST(Units, FormatsDurations) {
  const struct {
    uint64_t ns;
    const char* text;
  } rows[] = {{0, "0ns"},
              {999, "999ns"},
              {1000, "1us"},
              {1500, "1.5us"},
              {300 * kMs, "300ms"},
              {300'123'456, "300.123ms"},
              {999'999, "999.999us"},
              {999'999'999, "1s"},
              {1500 * kMs, "1.5s"},
              {kSecond, "1s"},
              {59'999'999'999, "1m"},
              {60 * kSecond, "1m"},
              {90 * kSecond, "1.5m"},
              {100 * kSecond, "1m40s"},
              {7200 * kSecond, "2h"},
              {3725 * kSecond + 123 * kMs, "1h2m5.123s"},
              {86400 * kSecond, "1d"},
              {90000 * kSecond, "25h"},
              {90061 * kSecond, "1d1h1m1s"},
              {kForeverNs, "infinity"},
              {UINT64_MAX, "infinity"}};
  for (const auto& row : rows) {
    EXPECT_EQ(format_duration(row.ns), row.text) << row.ns;
  }
}

TEST(Units, FormatsSizes) {
  const struct {
    uint64_t bytes;
    const char* text;
  } rows[] = {{0, "0B"},
              {1023, "1023B"},
              {1024, "1.0KiB"},
              {1536, "1.5KiB"},
              {64 << 20, "64.0MiB"},
              {(1 << 20) - 1, "1.0MiB"},
              {uint64_t{5} << 40, "5.0TiB"},
              {UINT64_MAX, "16.0EiB"}};
  for (const auto& row : rows) {
    EXPECT_EQ(format_size(row.bytes), row.text) << row.bytes;
  }
}

}  // namespace
}  // namespace procguard::core
