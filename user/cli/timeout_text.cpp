// SPDX-License-Identifier: Apache-2.0
#include "cli/timeout_text.h"

#include <langinfo.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cstring>
#include <cwchar>
#include <cwctype>

namespace procguard::cli {
namespace {

bool locale_is_utf8() {
  static const bool utf8 =
      std::setlocale(LC_CTYPE, "") != nullptr && std::strcmp(::nl_langinfo(CODESET), "UTF-8") == 0;
  return utf8;
}

// Backslash and a letter or three octal digits.
std::string escaped(char c) {
  constexpr std::string_view kCodes = "\a\b\f\n\r\t\v\\";
  constexpr std::string_view kLetters = "abfnrtv\\";
  if (size_t at = kCodes.find(c); at != std::string_view::npos) {
    return {'\\', kLetters[at]};
  }
  std::array<char, 8> octal{};
  std::snprintf(octal.data(), octal.size(), "\\%03o", static_cast<unsigned char>(c));
  return octal.data();
}

// Bytes of the character at the start of `text` that can be printed as they are; 0 = none.
size_t printable(std::string_view text) {
  std::mbstate_t state{};
  wchar_t character = 0;
  const size_t bytes = std::mbrtowc(&character, text.data(), text.size(), &state);
  const bool valid = bytes != 0 && bytes <= text.size();  // else NUL, cut short or malformed
  return valid && std::iswprint(static_cast<wint_t>(character)) != 0 ? bytes : 0;
}

bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n <= 0) {
      return false;
    }
    text.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

int print(const std::string& text, Messages& messages) {
  if (write_all(STDOUT_FILENO, text)) {
    return 0;
  }
  messages.say("write error", errno);
  return kTimeoutFailed;
}

}  // namespace

std::string quote_for_message(std::string_view text) {
  const bool utf8 = locale_is_utf8();
  const std::string_view open = utf8 ? "\u2018" : "'";
  const std::string_view close = utf8 ? "\u2019" : "'";
  std::string quoted(open);
  while (!text.empty()) {
    size_t bytes = 1;
    if (text.starts_with(close)) {
      bytes = close.size();
      quoted += '\\';
      quoted += close;
    } else if (size_t plain = text[0] == '\\' ? 0 : printable(text); plain != 0) {
      bytes = plain;
      quoted += text.substr(0, bytes);
    } else {
      quoted += escaped(text[0]);
    }
    text.remove_prefix(bytes);
  }
  return quoted.append(close);
}

void Messages::write(const std::string& line) {
  failed_ = !write_all(STDERR_FILENO, line) || failed_;
}

void Messages::say(const std::string& text) {
  write(std::string(program_name_) + ": " + text + "\n");
}

void Messages::say(const std::string& text, int error) {
  say(text + ": " + std::strerror(error));
}

void Messages::say_try_help() {
  write(std::string("Try '") + program_name_ + " --help' for more information.\n");
}

int timeout_help(Messages& messages) {
  const std::string name = messages.program_name();
  return print("Usage: " + name + R"( [OPTION]... DURATION COMMAND [ARG]...
Run COMMAND, and end it if it still runs after DURATION.

  -f, --foreground
         leave COMMAND in the terminal's foreground group, so that it can read
         from the terminal and gets its signals; only COMMAND itself is then
         signalled, not its children
  -k, --kill-after=DURATION
         send KILL as well, if COMMAND still runs this long after the first
         signal
  -p, --preserve-status
         exit with the status of COMMAND even if it timed out
  -s, --signal=SIGNAL
         send this signal on timeout: a name like HUP or a number; the default
         is TERM
  -v, --verbose
         say on standard error which signals are sent
      --help     print this text and exit
      --version  print the version and exit

DURATION is a number, decimals allowed, with an optional unit: s (seconds, the
default), m (minutes), h (hours) or d (days). 0 means no limit.

Exit status:
  124  COMMAND timed out, and --preserve-status was not given
  125  timeout itself failed
  126  COMMAND was found but could not be run
  127  COMMAND was not found
  137  KILL was sent to COMMAND, or to timeout itself (128+9)
  else the status of COMMAND

Examples:
  )" + name + R"( 10s ./job             end ./job with TERM after 10 seconds
  )" + name + R"( -k 5s 1.5m ./job      and with KILL if that does not help for 5 seconds
  )" + name + R"( -s INT -p 2h ./job    interrupt it after 2 hours, keep its own exit status

Guards for CPU time and memory, and for all descendants: procguard run --help
)",
               messages);
}

int timeout_version(Messages& messages) {
  return print("timeout (procguard) " PROCGUARD_VERSION "\n", messages);
}

}  // namespace procguard::cli
