// SPDX-License-Identifier: Apache-2.0
#include "cli/timeout.h"

#include <getopt.h>

#include <array>
#include <optional>
#include <vector>

#include "cli/timeout_command.h"
#include "cli/timeout_text.h"
#include "core/signals.h"
#include "core/units.h"

namespace procguard::cli {
namespace {

constexpr int kHelp = 256;
constexpr int kVersion = 257;
constexpr std::array<option, 8> kLongOptions{{{"foreground", no_argument, nullptr, 'f'},
                                              {"kill-after", required_argument, nullptr, 'k'},
                                              {"preserve-status", no_argument, nullptr, 'p'},
                                              {"signal", required_argument, nullptr, 's'},
                                              {"verbose", no_argument, nullptr, 'v'},
                                              {"help", no_argument, nullptr, kHelp},
                                              {"version", no_argument, nullptr, kVersion},
                                              {nullptr, 0, nullptr, 0}}};

bool take_duration(const char* text, uint64_t& ns, Messages& messages) {
  auto parsed = core::parse_gnu_duration(text);
  if (!parsed) {
    // GNU's words instead of the error's: scripts look for them.
    messages.say("invalid time interval " + quote_for_message(text));
    return false;
  }
  ns = parsed.value();
  return true;
}

bool take_signal(const char* text, int& signal, Messages& messages) {
  auto parsed = core::parse_signal(text);
  if (!parsed) {
    messages.say(quote_for_message(text) + ": invalid signal");
    return false;
  }
  signal = *parsed;
  return true;
}

// A status: the program is done. None: run options.command.
std::optional<int> parse(int argc, char** argv, TimeoutOptions& options, Messages& messages) {
  bool ok = true;
  ::optind = 0;  // start anew: the caller may have used getopt for its own arguments
  // '+': the command's own options are not ours.
  for (int c = 0;
       ok && (c = ::getopt_long(argc, argv, "+fk:ps:v", kLongOptions.data(), nullptr)) != -1;) {
    switch (c) {
      case 'f':
        options.foreground = true;
        break;
      case 'k':
        ok = take_duration(::optarg, options.kill_after_ns, messages);
        break;
      case 'p':
        options.preserve_status = true;
        break;
      case 's':
        ok = take_signal(::optarg, options.signal, messages);
        break;
      case 'v':
        options.verbose = true;
        break;
      case kHelp:
        return timeout_help(messages);
      case kVersion:
        return timeout_version(messages);
      default:
        ok = false;
    }
  }
  ok = ok && argc - ::optind >= 2 && take_duration(argv[::optind], options.duration_ns, messages);
  if (!ok) {
    messages.say_try_help();
    return kTimeoutFailed;
  }
  options.command = argv + ::optind + 1;
  return std::nullopt;
}

}  // namespace

int timeout_main(int argc, char** argv, const char* program_name) {
  Messages messages(program_name);
  // getopt's messages begin with argv[0].
  std::vector<char*> arguments(argv, argv + argc + 1);
  arguments[0] = const_cast<char*>(program_name);
  TimeoutOptions options;
  if (auto status = parse(argc, arguments.data(), options, messages)) {
    return *status;
  }
  TimeoutCommand command(options, messages);
  const int status = command.run();
  return messages.failed() ? (command.timed_out() ? kTimeoutTimedOut : kTimeoutFailed) : status;
}

}  // namespace procguard::cli
