// SPDX-License-Identifier: Apache-2.0
#include "cli/guard_words.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <ctime>
#include <optional>
#include <string>

#include "cli/agent_link.h"
#include "core/clock.h"
#include "core/units.h"
#include "proto/codec.h"
#include "sys/procfs_parse.h"

namespace procguard::cli {
namespace {

bool all_digits(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(),
                                      [](unsigned char c) { return c >= '0' && c <= '9'; });
}

std::string_view without_g(std::string_view text) {
  return text.starts_with('g') ? text.substr(1) : text;
}

// Nothing: it is too large.
std::optional<std::uint64_t> number(std::string_view digits) {
  std::uint64_t value = 0;
  const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return parsed.ec == std::errc() ? std::optional(value) : std::nullopt;
}

std::string quoted(std::string_view text) {
  return "'" + sys::printable(text) + "'";
}

// Takes exactly `digits` digits and the mark that follows them.
std::optional<int> take_field(std::string_view& text, std::size_t digits, char mark) {
  if (text.size() <= digits || !all_digits(text.substr(0, digits)) || text[digits] != mark) {
    return std::nullopt;
  }
  const auto value = number(text.substr(0, digits));
  text.remove_prefix(digits + 1);
  return static_cast<int>(*value);
}

// "2026-01-31T12:00:00[.123]Z"
std::optional<std::uint64_t> parse_utc(std::string_view text) {
  if (!text.ends_with('Z')) {
    return std::nullopt;
  }
  const auto year = take_field(text, 4, '-');
  const auto month = year ? take_field(text, 2, '-') : std::nullopt;
  const auto day = month ? take_field(text, 2, 'T') : std::nullopt;
  const auto hour = day ? take_field(text, 2, ':') : std::nullopt;
  const auto minute = hour ? take_field(text, 2, ':') : std::nullopt;
  const bool decimals = text.size() > 2 && text[2] == '.';
  const auto second = minute ? take_field(text, 2, decimals ? '.' : 'Z') : std::nullopt;
  if (!second) {
    return std::nullopt;
  }
  std::uint64_t ns = 0;
  if (decimals) {
    text.remove_suffix(1);
    if (!all_digits(text) || text.size() > 9) {
      return std::nullopt;
    }
    ns = *number(std::string(text) + std::string(9 - text.size(), '0'));
  } else if (!text.empty()) {
    return std::nullopt;
  }
  std::tm given{};
  given.tm_year = *year - 1900;
  given.tm_mon = *month - 1;
  given.tm_mday = *day;
  given.tm_hour = *hour;
  given.tm_min = *minute;
  given.tm_sec = *second;
  std::tm normal = given;
  // timegm() makes the 31st of April the 1st of May: what it changes was no time.
  const std::time_t seconds = ::timegm(&normal);
  const bool same = normal.tm_mon == given.tm_mon && normal.tm_mday == given.tm_mday &&
                    normal.tm_hour == given.tm_hour && normal.tm_min == given.tm_min &&
                    normal.tm_sec == given.tm_sec;
  if (!same || seconds < 0 || *year > 2500) {
    return std::nullopt;  // also what does not fit into 64 bits of nanoseconds
  }
  return static_cast<std::uint64_t>(seconds) * core::kSecond + ns;
}

}  // namespace

bool is_guard_number(std::string_view text) {
  return all_digits(without_g(text));
}

Result<proto::RefBody> parse_guard(std::string_view text) {
  proto::RefBody guard;
  if (is_guard_number(text)) {
    const auto id = number(without_g(text));
    if (!id || *id == 0) {
      return Error("no guard can have the number " + quoted(text) + " (expected g1, g2, ...)");
    }
    guard.id = *id;
    return guard;
  }
  const bool printable =
      std::all_of(text.begin(), text.end(), [](unsigned char c) { return c > ' ' && c < 0x7f; });
  if (text.empty() || text.size() >= PG_NAME_LEN || !printable) {
    return Error("no guard can be called " + quoted(text) +
                 " (expected g12, 12, or a name of 1 to " + std::to_string(PG_NAME_LEN - 1) +
                 " printable ASCII characters without blanks)");
  }
  proto::put_text(guard.name, text);
  return guard;
}

Error about_guard(const Error& error, const proto::RefBody& guard) {
  return error.code() == kAgentNone && guard.id >= kFirstShownId
             ? Error("a program's own guard, if it is one: only its program controls it",
                     kAgentNone)
             : error;
}

Result<Since> parse_when(std::string_view text, std::uint64_t now_real_ns) {
  const Error wrong("unknown time " + quoted(text) +
                    " (expected a duration ago as 10m, @SEQ, or 2026-01-31T12:00:00Z)");
  if (text.starts_with('@')) {
    const auto seq = all_digits(text.substr(1)) ? number(text.substr(1)) : std::nullopt;
    return seq ? Result<Since>(Since{.seq = *seq, .real_ns = 0}) : wrong;
  }
  if (const auto at = parse_utc(text)) {
    return Since{.seq = 0, .real_ns = *at};
  }
  const auto ago = core::parse_duration(text);
  if (!ago) {
    return wrong;
  }
  return Since{.seq = 0, .real_ns = core::saturating_sub(now_real_ns, ago.value())};
}

}  // namespace procguard::cli
