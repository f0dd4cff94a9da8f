// SPDX-License-Identifier: Apache-2.0
#include "tests/support/processes.h"

#include <dirent.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <sstream>
#include <thread>

#include "sys/fd.h"

namespace procguard::test {
namespace {

using Clock = std::chrono::steady_clock;

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

sys::Fd open_pidfd(pid_t pid) {
  return sys::Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

// Empty for a zombie and a kernel thread, and for a moment in the middle of exec: a process with
// memory but without environment is looked at again.
std::string environ_of(pid_t pid) {
  const std::string proc = "/proc/" + std::to_string(pid);
  std::string text = read_file(proc + "/environ");
  for (int i = 0; i < 5 && text.empty(); ++i) {
    const std::string statm = read_file(proc + "/statm");
    if (statm.empty() || statm[0] == '0') {
      break;
    }
    std::this_thread::sleep_for(std::chrono::microseconds(500));
    text = read_file(proc + "/environ");
  }
  return text;
}

bool carries(pid_t pid, const std::string& id) {
  const std::string environ_text = environ_of(pid);
  const std::string wanted = std::string(kMarker) + "=" + id;
  for (size_t at = 0; (at = environ_text.find(wanted, at)) != std::string::npos; ++at) {
    if (at == 0 || environ_text[at - 1] == '\0') {
      return true;
    }
  }
  return false;
}

}  // namespace

std::vector<pid_t> survivors(const std::string& id) {
  std::vector<pid_t> result;
  std::unique_ptr<DIR, int (*)(DIR*)> proc(::opendir("/proc"), ::closedir);
  while (const dirent* entry = proc ? ::readdir(proc.get()) : nullptr) {
    const pid_t pid = static_cast<pid_t>(std::strtol(entry->d_name, nullptr, 10));
    if (pid > 0 && carries(pid, id)) {
      result.push_back(pid);
    }
  }
  return result;
}

std::vector<pid_t> wait_for_no_survivors(const std::string& id, std::chrono::nanoseconds deadline) {
  std::vector<pid_t> left;
  wait_until([&] { return (left = survivors(id)).empty(); }, deadline);
  return left;
}

int kill_survivors(const std::string& id) {
  int killed = 0;
  wait_until([&] {
    const std::vector<pid_t> found = survivors(id);
    for (pid_t pid : found) {
      // The pidfd is taken first and the marker looked at again: never another process.
      sys::Fd pidfd = open_pidfd(pid);
      if (pidfd && carries(pid, id) &&
          ::syscall(SYS_pidfd_send_signal, pidfd.get(), SIGKILL, nullptr, 0) == 0) {
        ++killed;
      }
    }
    return found.empty();
  });
  return killed;
}

bool wait_until(const std::function<bool()>& condition, std::chrono::nanoseconds deadline) {
  const auto end = Clock::now() + deadline;
  while (!condition()) {
    if (Clock::now() >= end) {
      return condition();
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

char process_state(pid_t pid) {
  const std::string stat = read_file("/proc/" + std::to_string(pid) + "/stat");
  const size_t end_of_comm = stat.rfind(')');
  return end_of_comm == std::string::npos || end_of_comm + 2 >= stat.size() ? '\0'
                                                                            : stat[end_of_comm + 2];
}

}  // namespace procguard::test
