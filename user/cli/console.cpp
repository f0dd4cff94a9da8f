// SPDX-License-Identifier: Apache-2.0
#include "cli/console.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "cli/agent_link.h"

namespace procguard::cli {

std::string one_line(std::string_view text) {
  std::string line;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= ' ' && byte < 0x7f) {
      line += c;
    } else {
      char escaped[8];
      std::snprintf(escaped, sizeof(escaped), "\\x%02x", byte);
      line += escaped;
    }
  }
  return line;
}

int fail(std::string_view command, const Error& error) {
  const std::string line =
      "procguard: " + std::string(command) + ": " + one_line(error.message()) + "\n";
  std::fputs(line.c_str(), stderr);
  return error.code();
}

int fail_usage(std::string_view command, const Error& error) {
  static_cast<void>(fail(command, error));
  return kAgentUsage;
}

Written write_out(std::string_view command, std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) {
    return Written::kYes;
  }
  if (errno == EPIPE) {
    return Written::kNobodyReads;
  }
  static_cast<void>(fail(command, Error::system("writing to standard output", errno)));
  return Written::kFailed;
}

int print_out(std::string_view command, std::string_view text) {
  return write_out(command, text) == Written::kFailed ? kAgentNone : kAgentOk;
}

}  // namespace procguard::cli
