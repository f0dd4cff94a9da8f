// SPDX-License-Identifier: Apache-2.0
// What `procguard timeout` says, in the form of GNU's messages. Main thread only.
#pragma once

#include <string>
#include <string_view>

namespace procguard::cli {

inline constexpr int kTimeoutTimedOut = 124;
inline constexpr int kTimeoutFailed = 125;
inline constexpr int kTimeoutCannotInvoke = 126;
inline constexpr int kTimeoutNotFound = 127;

// Quotes an argument for a message: 'x', or with the quotes of a UTF-8 locale; what cannot be
// printed there is escaped. Reads the locale from the environment at the first call.
std::string quote_for_message(std::string_view text);

// Messages on standard error, each "PROGRAM: text" and one write. Remembers failed writes: GNU
// reports them in the exit status, and a caller's log that could not be written must not look like
// success.
class Messages {
 public:
  explicit Messages(const char* program_name) : program_name_(program_name) {}

  void say(const std::string& text);
  void say(const std::string& text, int error);  // with strerror(error)
  void say_try_help();
  bool failed() const { return failed_; }
  const char* program_name() const { return program_name_; }

 private:
  void write(const std::string& line);

  const char* program_name_;
  bool failed_ = false;
};

// Print on standard output; the exit status.
int timeout_help(Messages& messages);
int timeout_version(Messages& messages);

}  // namespace procguard::cli
