// SPDX-License-Identifier: Apache-2.0
#include "sys/systemd.h"

#include <dlfcn.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

namespace procguard::sys {

namespace {

constexpr const char* kLibrary = "libsystemd.so.0";
constexpr const char* kJournalSocket = "/run/systemd/journal/socket";
constexpr std::uint64_t kNsPerUs = 1000;

// Never unloaded: threads may be in it when the process ends.
struct Library {
  int (*notify)(int unset_environment, const char* state) = nullptr;
  int (*watchdog_enabled)(int unset_environment, std::uint64_t* usec) = nullptr;
  int (*journal_sendv)(const iovec* fields, int count) = nullptr;
  bool complete() const { return notify && watchdog_enabled && journal_sendv; }
};

Library load() {
  Library library;
  if (void* handle = ::dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL)) {
    const auto find = [handle](const char* name, auto& function) {
      function = reinterpret_cast<std::decay_t<decltype(function)>>(::dlsym(handle, name));
    };
    find("sd_notify", library.notify);
    find("sd_watchdog_enabled", library.watchdog_enabled);
    find("sd_journal_sendv", library.journal_sendv);
  }
  return library;
}

const Library& library() {
  static const Library loaded = load();
  return loaded;
}

}  // namespace

void notify_manager(const std::string& state) {
  // Most often nobody listens: then the library is not even looked for.
  if (std::getenv("NOTIFY_SOCKET") != nullptr && library().complete()) {
    (void)library().notify(0, state.c_str());
  }
}

std::uint64_t watchdog_ns() {
  std::uint64_t usec = 0;
  if (std::getenv("WATCHDOG_USEC") == nullptr || !library().complete() ||
      library().watchdog_enabled(0, &usec) <= 0 || usec > UINT64_MAX / kNsPerUs) {
    return 0;
  }
  return usec * kNsPerUs;
}

Result<void> journal_available() {
  if (!library().complete()) {
    return Error(std::string("the journal: ") + kLibrary + " cannot be loaded", ENOENT);
  }
  // Without it the library takes all fields and throws them away.
  if (::access(kJournalSocket, W_OK) != 0) {
    return Error::system(std::string("the journal: ") + kJournalSocket, errno);
  }
  return {};
}

Result<void> journal_send(const std::vector<std::pair<std::string, std::string>>& fields) {
  if (auto available = journal_available(); !available) {
    return available;
  }
  std::vector<std::string> lines;
  std::vector<iovec> parts;
  lines.reserve(fields.size());
  for (const auto& [name, value] : fields) {
    std::string& line = lines.emplace_back(name);
    line.append("=").append(value);
    parts.push_back({.iov_base = line.data(), .iov_len = line.size()});
  }
  const int sent = library().journal_sendv(parts.data(), static_cast<int>(parts.size()));
  return sent < 0 ? Error::system("the journal", -sent) : Result<void>();
}

}  // namespace procguard::sys
