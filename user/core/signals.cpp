// SPDX-License-Identifier: Apache-2.0
#include "core/signals.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <csignal>

namespace procguard::core {
namespace {

struct Name {
  std::string_view name;
  int signal;
};

// The first name of a number is the one that is printed.
constexpr std::array kNames{
    Name{"EXIT", 0},       Name{"HUP", SIGHUP},       Name{"INT", SIGINT},
    Name{"QUIT", SIGQUIT}, Name{"ILL", SIGILL},       Name{"TRAP", SIGTRAP},
    Name{"ABRT", SIGABRT}, Name{"BUS", SIGBUS},       Name{"FPE", SIGFPE},
    Name{"KILL", SIGKILL}, Name{"USR1", SIGUSR1},     Name{"SEGV", SIGSEGV},
    Name{"USR2", SIGUSR2}, Name{"PIPE", SIGPIPE},     Name{"ALRM", SIGALRM},
    Name{"TERM", SIGTERM}, Name{"STKFLT", SIGSTKFLT}, Name{"CHLD", SIGCHLD},
    Name{"CONT", SIGCONT}, Name{"STOP", SIGSTOP},     Name{"TSTP", SIGTSTP},
    Name{"TTIN", SIGTTIN}, Name{"TTOU", SIGTTOU},     Name{"URG", SIGURG},
    Name{"XCPU", SIGXCPU}, Name{"XFSZ", SIGXFSZ},     Name{"VTALRM", SIGVTALRM},
    Name{"PROF", SIGPROF}, Name{"WINCH", SIGWINCH},   Name{"POLL", SIGPOLL},
    Name{"PWR", SIGPWR},   Name{"SYS", SIGSYS},       Name{"IOT", SIGABRT},
    Name{"CLD", SIGCHLD},  Name{"IO", SIGIO},
};
constexpr int kStandardSignals = 31;

bool has_name(int signal) {
  return (signal >= 0 && signal <= kStandardSignals) || (signal >= SIGRTMIN && signal <= SIGRTMAX);
}

// The whole text as a decimal number without a sign.
std::optional<int> number(std::string_view text) {
  int value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) {
    return std::nullopt;
  }
  return value;
}

std::optional<int> by_name(std::string_view name) {
  for (const Name& known : kNames) {
    if (known.name == name) {
      return known.signal;
    }
  }
  const bool from_min = name.starts_with("RTMIN");
  if (!from_min && !name.starts_with("RTMAX")) {
    return std::nullopt;
  }
  name.remove_prefix(5);
  int offset = 0;
  if (!name.empty()) {
    auto value = number(name.substr(1));
    if (!value || name[0] != (from_min ? '+' : '-') || *value > SIGRTMAX - SIGRTMIN) {
      return std::nullopt;
    }
    offset = *value;
  }
  return from_min ? SIGRTMIN + offset : SIGRTMAX - offset;
}

}  // namespace

std::optional<int> parse_signal(std::string_view text) {
  if (text.empty()) {
    return std::nullopt;
  }
  if (text[0] >= '0' && text[0] <= '9') {
    auto value = number(text);
    if (!value) {
      return std::nullopt;
    }
    // A shell's $? of a command that a signal ended: 128 + N, in some shells 256 + N.
    const int signal = *value & (*value >= 0xff ? 0xff : 0x7f);
    return has_name(signal) ? std::optional(signal) : std::nullopt;
  }
  std::string name(text);
  std::transform(name.begin(), name.end(), name.begin(),
                 [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; });
  if (auto signal = by_name(name)) {
    return signal;
  }
  return name.starts_with("SIG") ? by_name(std::string_view(name).substr(3)) : std::nullopt;
}

std::string signal_name(int signal) {
  if (!has_name(signal)) {
    return std::to_string(signal);
  }
  if (signal <= kStandardSignals) {
    return std::string(std::find_if(kNames.begin(), kNames.end(), [=](const Name& n) {
                         return n.signal == signal;
                       })->name);
  }
  const bool from_min = signal <= SIGRTMIN + (SIGRTMAX - SIGRTMIN) / 2;
  const int offset = from_min ? signal - SIGRTMIN : SIGRTMAX - signal;
  std::string name = from_min ? "RTMIN" : "RTMAX";
  return offset == 0 ? name : name + (from_min ? "+" : "-") + std::to_string(offset);
}

std::string signal_full_name(int signal) {
  return has_name(signal) ? "SIG" + signal_name(signal) : std::to_string(signal);
}

}  // namespace procguard::core
