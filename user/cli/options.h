// SPDX-License-Identifier: Apache-2.0
// The options of a subcommand, and what is wrong with their values. CLI11 finds them, in one file
// of its own: its header is heavy to compile and its globals are made anew wherever it is included.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/result.h"

namespace procguard::cli {

// An option with one argument. An empty text is not the same as none.
struct Text {
  bool given = false;
  std::string value;
};

// Where a subcommand's own words may stand.
enum class Words {
  kAfterOptions,  // the first word that is no option begins a command, whose words are its own
  kAnywhere,
};

class Options {
 public:
  // `usage`: what follows "procguard". `description` and `footer` stand around the options in the
  // help text.
  Options(const std::string& usage, const std::string& description, const std::string& footer);
  Options(const Options&) = delete;
  Options& operator=(const Options&) = delete;
  ~Options();

  // All of these outlive parse(). Of the same option given more than once the last one counts, but
  // for each(), which keeps them all.
  void text(Text& text, const char* names, const char* type, const std::string& help);
  void each(std::vector<std::string>& texts, const char* names, const char* type,
            const std::string& help);
  void flag(bool& given, const char* names, const std::string& help);

  struct Parsed {
    std::vector<std::string> words;  // that are neither options nor an option's argument
    std::string help;                // not empty: print this and do nothing else
  };
  Result<Parsed> parse(const std::vector<std::string>& args, Words where);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// What is wrong with the values: the first error wins, the rest is not looked at.
class Checks {
 public:
  const std::optional<Error>& error() const { return error_; }

  void fail(const std::string& message) {
    if (!error_) {
      error_ = Error(message);
    }
  }
  void conflict(const char* one, bool one_given, const char* other, bool other_given) {
    if (one_given && other_given) {
      fail(std::string(one) + " and " + other + " exclude each other");
    }
  }
  // 0 means "not given" in a GuardSpec, so a given 0 is refused.
  void positive(const Text& text, const char* name,
                Result<std::uint64_t> (*parse)(std::string_view), std::uint64_t& out);
  // The name of a guard.
  void guard_name(const Text& text, const char* name, std::string& out);

  template <typename Value>
  void choice(const Text& text, const char* name,
              std::initializer_list<std::pair<const char*, Value>> choices, Value& out) {
    if (!text.given) {
      return;
    }
    std::string expected;
    for (const auto& [word, value] : choices) {
      if (text.value == word) {
        out = value;
        return;
      }
      expected += std::string(expected.empty() ? "" : ", ") + word;
    }
    fail(std::string(name) + ": unknown '" + text.value + "' (expected " + expected + ")");
  }

 private:
  std::optional<Error> error_;
};

}  // namespace procguard::cli
