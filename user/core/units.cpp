// SPDX-License-Identifier: Apache-2.0
#include "core/units.h"

#include <algorithm>
#include <array>
#include <cstdio>

namespace procguard::core {
namespace {

__extension__ using Wide = unsigned __int128;

constexpr uint64_t kNsPerUs = 1000;
constexpr uint64_t kNsPerMs = 1000 * kNsPerUs;
constexpr uint64_t kNsPerSecond = 1000 * kNsPerMs;
constexpr uint64_t kNsPerMinute = 60 * kNsPerSecond;
constexpr uint64_t kNsPerHour = 60 * kNsPerMinute;
constexpr uint64_t kNsPerDay = 24 * kNsPerHour;

// Exponents beyond this are all the same: nothing or forever.
constexpr int kExponentBound = 100000;

// mantissa * base^exponent; `more` if digits below the mantissa were dropped.
struct Number {
  uint64_t mantissa = 0;
  int base = 10;
  int exponent = 0;
  bool more = false;
  bool infinite = false;
};

struct Unit {
  std::string_view name;
  uint64_t factor;
};

constexpr std::array<Unit, 7> kDurationUnits{{{"", kNsPerSecond},
                                              {"s", kNsPerSecond},
                                              {"m", kNsPerMinute},
                                              {"h", kNsPerHour},
                                              {"d", kNsPerDay},
                                              {"ms", kNsPerMs},
                                              {"us", kNsPerUs}}};
constexpr size_t kGnuDurationUnits = 5;

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

int digit_value(char c, int base) {
  if (is_digit(c)) {
    return c - '0';
  }
  c = lower(c);
  return base == 16 && c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool take_word(std::string_view& text, std::string_view word) {
  if (text.size() < word.size() || !std::equal(word.begin(), word.end(), text.begin(),
                                               [](char w, char t) { return w == lower(t); })) {
    return false;
  }
  text.remove_prefix(word.size());
  return true;
}

// Digits with at most one '.'. Leaves `text` alone and returns false if there is no digit.
bool take_digits(std::string_view& text, int base, Number& number) {
  const uint64_t room = (UINT64_MAX - static_cast<uint64_t>(base)) / static_cast<uint64_t>(base);
  bool any = false;
  bool fraction = false;
  size_t i = 0;
  for (; i < text.size(); ++i) {
    if (text[i] == '.' && !fraction) {
      fraction = true;
      continue;
    }
    int digit = digit_value(text[i], base);
    if (digit < 0) {
      break;
    }
    any = true;
    if (number.mantissa < room) {
      number.mantissa =
          number.mantissa * static_cast<uint64_t>(base) + static_cast<uint64_t>(digit);
      number.exponent -= fraction ? 1 : 0;
    } else {
      number.more = number.more || digit != 0;
      number.exponent += fraction ? 0 : 1;
    }
    number.exponent = std::clamp(number.exponent, -kExponentBound, kExponentBound);
  }
  if (any) {
    number.base = base;
    text.remove_prefix(i);
  }
  return any;
}

// "e-3", or "p+4" with marker 'p'. Taken only if complete.
void take_exponent(std::string_view& text, char marker, Number& number) {
  if (text.empty() || lower(text[0]) != marker) {
    return;
  }
  size_t i = 1;
  bool negative = false;
  if (i < text.size() && (text[i] == '+' || text[i] == '-')) {
    negative = text[i++] == '-';
  }
  if (i == text.size() || !is_digit(text[i])) {
    return;
  }
  int value = 0;
  for (; i < text.size() && is_digit(text[i]); ++i) {
    value = std::min(value * 10 + (text[i] - '0'), 10 * kExponentBound);
  }
  text.remove_prefix(i);
  number.exponent += negative ? -value : value;
}

// "0x1.8p3"
bool take_hexadecimal(std::string_view& text, Number& number) {
  std::string_view digits = text;
  if (!take_word(digits, "0x") || !take_digits(digits, 16, number)) {
    return false;
  }
  text = digits;
  number.base = 2;
  number.exponent *= 4;
  take_exponent(text, 'p', number);
  return true;
}

// The number that strtod(3) would see at the start of `text`, which is cut off; false if there is
// none or it is negative.
bool take_number(std::string_view& text, Number& number) {
  while (!text.empty() && (text[0] == ' ' || (text[0] >= '\t' && text[0] <= '\r'))) {
    text.remove_prefix(1);
  }
  const bool negative = !text.empty() && text[0] == '-';
  if (negative || (!text.empty() && text[0] == '+')) {
    text.remove_prefix(1);
  }
  if (take_word(text, "infinity") || take_word(text, "inf")) {
    number.infinite = true;
    return !negative;
  }
  if (!take_hexadecimal(text, number)) {
    if (!take_digits(text, 10, number)) {
      return false;
    }
    take_exponent(text, 'e', number);
  }
  return !negative || number.mantissa == 0;
}

// number * factor, rounded up; `bound` if it would be more.
uint64_t scale_up(const Number& number, uint64_t factor, uint64_t bound) {
  if (number.infinite) {
    return bound;
  }
  if (number.mantissa == 0) {
    return 0;
  }
  const auto base = static_cast<Wide>(number.base);
  Wide value = static_cast<Wide>(number.mantissa) * factor;
  bool more = number.more;
  for (int e = number.exponent; e > 0; --e) {
    if (value > bound) {
      return bound;
    }
    value *= base;
  }
  for (int e = number.exponent; e < 0 && value != 0; ++e) {
    more = more || value % base != 0;
    value /= base;
  }
  value += more ? 1 : 0;
  return value > bound ? bound : static_cast<uint64_t>(value);
}

std::string quoted(std::string_view text) {
  return "\"" + std::string(text) + "\"";
}

Result<uint64_t> parse_time(std::string_view text, size_t units, const char* expected) {
  std::string_view rest = text;
  Number number;
  if (take_number(rest, number)) {
    for (size_t i = 0; i < units; ++i) {
      if (rest == kDurationUnits[i].name) {
        return scale_up(number, kDurationUnits[i].factor, kForeverNs);
      }
    }
  }
  return Error("invalid duration " + quoted(text) + ": expected " + expected);
}

// 0 = not a unit.
uint64_t size_factor(std::string_view unit) {
  if (unit.size() == 1 && lower(unit[0]) == 'b') {
    return 1;
  }
  constexpr std::string_view kLetters = "kmgt";
  size_t at = unit.empty() ? std::string_view::npos : kLetters.find(lower(unit[0]));
  if (at == std::string_view::npos) {
    return 0;
  }
  unit.remove_prefix(1);
  if (!unit.empty() && !((take_word(unit, "ib") || take_word(unit, "i")) && unit.empty())) {
    return 0;
  }
  return uint64_t{1} << (10 * (at + 1));
}

// value/unit with at most `decimals` decimals, zeros at the end cut off.
std::string decimal(uint64_t value, uint64_t unit, const char* name) {
  // Rounded to thousandths in integers: a double would lose digits of long times.
  Wide thousandths = (static_cast<Wide>(value) * 1000 + unit / 2) / unit;
  std::string text = std::to_string(static_cast<uint64_t>(thousandths / 1000));
  if (auto fraction = static_cast<unsigned>(thousandths % 1000); fraction != 0) {
    std::array<char, 8> digits{};
    std::snprintf(digits.data(), digits.size(), ".%03u", fraction);
    text += digits.data();
    text.erase(text.find_last_not_of('0') + 1);
  }
  return text + name;
}

}  // namespace

Result<uint64_t> parse_duration(std::string_view text) {
  return parse_time(text, kDurationUnits.size(),
                    "a number of seconds, or one with a unit: us, ms, s, m, h, d (as in 300ms)");
}

Result<uint64_t> parse_gnu_duration(std::string_view text) {
  return parse_time(text, kGnuDurationUnits,
                    "a number of seconds, or one with a unit: s, m, h, d (as in 1.5m)");
}

Result<uint64_t> parse_size(std::string_view text) {
  const std::string invalid = "invalid size " + quoted(text) + ": ";
  std::string_view unit = text;
  Number number;
  if (!take_digits(unit, 10, number)) {
    return Error(invalid + "expected a number with a unit: B, K, M, G, T (as in 64M)");
  }
  if (unit.empty()) {
    return Error(invalid + "a unit is needed: B, K, M, G, T (as in " + std::string(text) + "M)");
  }
  const uint64_t factor = size_factor(unit);
  if (factor == 0) {
    return Error(invalid + "unknown unit " + quoted(unit) +
                 ": expected B, K, M, G, T or KiB, MiB, GiB, TiB (powers of 1024)");
  }
  constexpr uint64_t kMost = INT64_MAX;
  const uint64_t bytes = scale_up(number, factor, kMost + 1);
  if (bytes > kMost) {
    return Error(invalid + "too large, expected less than 8388608T");
  }
  return bytes;
}

std::string format_duration(uint64_t ns) {
  if (ns >= kForeverNs) {
    return "infinity";
  }
  // A value just below the next unit must not be rounded up to 1000 of this one.
  if (ns < kNsPerUs) {
    return std::to_string(ns) + "ns";
  }
  if (ns < kNsPerMs - kNsPerUs / 2000) {
    return decimal(ns, kNsPerUs, "us");
  }
  if (ns < kNsPerSecond - kNsPerMs / 2000) {
    return decimal(ns, kNsPerMs, "ms");
  }
  if (ns < kNsPerMinute - kNsPerSecond / 2000) {
    return decimal(ns, kNsPerSecond, "s");
  }
  for (const Unit& unit : {Unit{"d", kNsPerDay}, Unit{"h", kNsPerHour}, Unit{"m", kNsPerMinute}}) {
    if (ns >= unit.factor && ns % (unit.factor / 2) == 0) {
      return decimal(ns, unit.factor, unit.name.data());
    }
  }
  uint64_t left = (ns + kNsPerMs / 2) / kNsPerMs * kNsPerMs;
  std::string text;
  for (const Unit& unit : {Unit{"d", kNsPerDay}, Unit{"h", kNsPerHour}, Unit{"m", kNsPerMinute}}) {
    if (left >= unit.factor) {
      text += std::to_string(left / unit.factor) + unit.name.data();
      left %= unit.factor;
    }
  }
  return left == 0 ? text : text + decimal(left, kNsPerSecond, "s");
}

std::string format_size(uint64_t bytes) {
  constexpr uint64_t kKilo = 1024;
  if (bytes < kKilo) {
    return std::to_string(bytes) + "B";
  }
  constexpr std::array<const char*, 6> kNames{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  size_t at = 0;
  uint64_t unit = kKilo;
  auto tenths = [&] { return (static_cast<Wide>(bytes) * 10 + unit / 2) / unit; };
  while (at + 1 < kNames.size() && tenths() >= Wide{10} * kKilo) {
    unit *= kKilo;
    ++at;
  }
  const auto rounded = static_cast<uint64_t>(tenths());
  return std::to_string(rounded / 10) + "." + std::to_string(rounded % 10) + kNames[at];
}

}  // namespace procguard::core
