// SPDX-License-Identifier: Apache-2.0
#include "sys/procfs_parse.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>

namespace procguard::sys {

namespace {

constexpr std::uint32_t kPfKthread = 0x00200000;  // the kernel's PF_KTHREAD
constexpr std::string_view kBlanks = " \t\n";

// Takes blank-separated words off the front of a text.
class Words {
 public:
  explicit Words(std::string_view text) : rest_(text) {}

  std::string_view next() {
    const std::size_t begin = rest_.find_first_not_of(kBlanks);
    if (begin == std::string_view::npos) {
      rest_ = {};
      return {};
    }
    const std::size_t end = std::min(rest_.find_first_of(kBlanks, begin), rest_.size());
    const std::string_view word = rest_.substr(begin, end - begin);
    rest_.remove_prefix(end);
    return word;
  }

 private:
  std::string_view rest_;
};

template <typename T>
bool to_number(std::string_view word, T& value, int base = 10) {
  const char* end = word.data() + word.size();
  const auto parsed = std::from_chars(word.data(), end, value, base);
  return !word.empty() && parsed.ec == std::errc() && parsed.ptr == end;
}

// Takes lines off the front of a text, without their line end.
bool next_line(std::string_view& rest, std::string_view& line) {
  if (rest.empty()) {
    return false;
  }
  const std::size_t end = std::min(rest.find('\n'), rest.size());
  line = rest.substr(0, end);
  rest.remove_prefix(std::min(end + 1, rest.size()));
  return true;
}

std::uint64_t number_or_zero(std::string_view word, int base = 10) {
  std::uint64_t value = 0;
  return to_number(word, value, base) ? value : 0;
}

// "1234 kB"
std::uint64_t kib_to_bytes(std::string_view value) {
  return number_or_zero(Words(value).next()) * 1024;
}

std::string unescape_octal(std::string_view text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned value = 0;
    if (text[i] == '\\' && i + 3 < text.size() && to_number(text.substr(i + 1, 3), value, 8) &&
        value < 256) {
      result += static_cast<char>(value);
      i += 3;
    } else {
      result += text[i];
    }
  }
  return result;
}

}  // namespace

bool Stat::kernel_thread() const {
  return (flags & kPfKthread) != 0;
}

std::optional<Stat> parse_stat(std::string_view text) {
  // comm may hold blanks, line ends and parentheses: only the last ')' ends it.
  const std::size_t open = text.find('(');
  const std::size_t close = text.rfind(')');
  if (open == std::string_view::npos || close == std::string_view::npos || close < open) {
    return std::nullopt;
  }
  Stat stat;
  if (!to_number(Words(text.substr(0, open)).next(), stat.pid)) {
    return std::nullopt;
  }
  stat.comm = std::string(text.substr(open + 1, close - open - 1));
  // Field numbers as in proc(5): state is 3.
  std::array<std::string_view, 53> field;
  Words words(text.substr(close + 1));
  for (std::size_t i = 3; i < field.size(); ++i) {
    field[i] = words.next();
  }
  bool good = field[3].size() == 1;
  const auto number = [&](std::size_t index, auto& value) {
    good = good && to_number(field[index], value);
  };
  number(4, stat.ppid);
  number(5, stat.process_group);
  number(6, stat.session);
  number(9, stat.flags);
  number(14, stat.user_ticks);
  number(15, stat.system_ticks);
  number(16, stat.children_user_ticks);
  number(17, stat.children_system_ticks);
  number(20, stat.threads);
  number(22, stat.start_ticks);
  number(26, stat.start_code);
  number(28, stat.start_stack);
  if (!good) {
    return std::nullopt;
  }
  stat.state = field[3][0];
  return stat;
}

std::optional<Statm> parse_statm(std::string_view text) {
  Words words(text);
  Statm statm;
  if (!to_number(words.next(), statm.size) || !to_number(words.next(), statm.resident) ||
      !to_number(words.next(), statm.shared)) {
    return std::nullopt;
  }
  return statm;
}

std::string_view status_field(std::string_view text, std::string_view name) {
  std::string_view line;
  while (next_line(text, line)) {
    if (line.size() > name.size() && line.starts_with(name) && line[name.size()] == ':') {
      line.remove_prefix(name.size() + 1);
      const std::size_t begin = line.find_first_not_of(kBlanks);
      if (begin == std::string_view::npos) {
        return {};
      }
      return line.substr(begin, line.find_last_not_of(kBlanks) - begin + 1);
    }
  }
  return {};
}

std::optional<Status> parse_status(std::string_view text) {
  // Each line has its name once, and the kernel escapes line ends in the one hostile value
  // ("Name").
  Status status;
  const std::string_view state = status_field(text, "State");
  Words uids(status_field(text, "Uid"));
  if (state.empty() || !to_number(uids.next(), status.real_uid) ||
      !to_number(uids.next(), status.effective_uid) || !to_number(uids.next(), status.saved_uid)) {
    return std::nullopt;
  }
  status.state = state[0];
  status.tracer_pid = static_cast<pid_t>(number_or_zero(status_field(text, "TracerPid")));
  Words ns_pids(status_field(text, "NSpid"));
  for (auto word = ns_pids.next(); !word.empty(); word = ns_pids.next()) {
    status.ns_pids.push_back(static_cast<pid_t>(number_or_zero(word)));
  }
  status.peak_rss_bytes = kib_to_bytes(status_field(text, "VmHWM"));
  status.rss_bytes = kib_to_bytes(status_field(text, "VmRSS"));
  status.caught_signals = number_or_zero(status_field(text, "SigCgt"), 16);
  status.voluntary_switches = number_or_zero(status_field(text, "voluntary_ctxt_switches"));
  status.involuntary_switches = number_or_zero(status_field(text, "nonvoluntary_ctxt_switches"));
  return status;
}

std::optional<Schedstat> parse_schedstat(std::string_view text) {
  Words words(text);
  Schedstat stat;
  if (!to_number(words.next(), stat.cpu_ns) || !to_number(words.next(), stat.runnable_wait_ns) ||
      !to_number(words.next(), stat.slices)) {
    return std::nullopt;
  }
  return stat;
}

std::optional<SyscallState> parse_syscall(std::string_view text) {
  const std::string_view word = Words(text).next();
  SyscallState state;
  if (word == "running") {
    state.running = true;
    return state;
  }
  return to_number(word, state.number) ? std::optional(state) : std::nullopt;
}

std::optional<std::uint64_t> parse_uptime(std::string_view text) {
  // "12345.67 23456.78": seconds and hundredths.
  const std::string_view word = Words(text).next();
  const std::size_t point = word.find('.');
  std::uint64_t seconds = 0;
  std::uint64_t hundredths = 0;
  if (point == std::string_view::npos || !to_number(word.substr(0, point), seconds) ||
      word.size() != point + 3 || !to_number(word.substr(point + 1), hundredths)) {
    return std::nullopt;
  }
  return seconds * 1'000'000'000 + hundredths * 10'000'000;
}

std::optional<pid_t> parse_pid(std::string_view name) {
  pid_t pid = 0;
  return to_number(name, pid) && pid > 0 ? std::optional(pid) : std::nullopt;
}

std::optional<std::vector<pid_t>> parse_pids(std::string_view text) {
  std::vector<pid_t> pids;
  Words words(text);
  for (auto word = words.next(); !word.empty(); word = words.next()) {
    pid_t pid = 0;
    if (!to_number(word, pid) || pid < 0) {
      return std::nullopt;
    }
    if (pid != 0) {
      pids.push_back(pid);
    }
  }
  return pids;
}

std::optional<CgroupLine> parse_cgroup_v2(std::string_view text) {
  constexpr std::string_view kPrefix = "0::";
  constexpr std::string_view kDeleted = " (deleted)";
  std::string_view line;
  while (next_line(text, line)) {
    if (!line.starts_with(kPrefix)) {
      continue;
    }
    line.remove_prefix(kPrefix.size());
    if (line.empty() || line[0] != '/') {
      return std::nullopt;
    }
    // A live cgroup may be *named* "x (deleted)": who needs to know looks whether it is there.
    CgroupLine result;
    result.deleted = line.ends_with(kDeleted);
    result.path =
        std::string(result.deleted ? line.substr(0, line.size() - kDeleted.size()) : line);
    return result;
  }
  return std::nullopt;
}

std::vector<Mount> parse_mountinfo(std::string_view text) {
  std::vector<Mount> mounts;
  std::string_view line;
  while (next_line(text, line)) {
    // ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAG...] - TYPE SOURCE SUPER_OPTIONS
    Words words(line);
    words.next();
    words.next();
    words.next();
    Mount mount;
    mount.root = unescape_octal(words.next());
    mount.point = unescape_octal(words.next());
    words.next();
    std::string_view word = words.next();
    while (!word.empty() && word != "-") {
      word = words.next();
    }
    mount.type = std::string(words.next());
    words.next();
    mount.super_options = std::string(words.next());
    if (!mount.type.empty()) {
      mounts.push_back(std::move(mount));
    }
  }
  return mounts;
}

std::string printable(std::string_view raw) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string text;
  text.reserve(raw.size());
  for (const char c : raw) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\\') {
      text += "\\\\";
    } else if (byte >= 0x20 && byte < 0x7f) {
      text += c;
    } else {
      text += "\\x";
      text += kHex[byte >> 4];
      text += kHex[byte & 0xf];
    }
  }
  return text;
}

}  // namespace procguard::sys
