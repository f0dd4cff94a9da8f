// SPDX-License-Identifier: Apache-2.0
#include "tests/client/guarded.h"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#if defined(__SANITIZE_THREAD__)
// Tests fork in a process with threads, and the children start their own.
extern "C" const char* __tsan_default_options() {
  return "die_after_fork=0";
}
#endif

namespace procguard::test {
namespace {

struct Slot {
  std::atomic<int> signal{0};  // last: the others are there
  pid_t tid = 0;
  Clock::time_point at{};
};
std::array<Slot, 4096> g_slots;
std::atomic<std::size_t> g_count{0};
std::atomic<int> g_tell{-1};

void on_signal(int signal) {
  const std::size_t index = g_count.fetch_add(1);
  if (index < g_slots.size()) {
    Slot& slot = g_slots[index];
    slot.tid = ::gettid();
    slot.at = Clock::now();
    slot.signal.store(signal, std::memory_order_release);
  }
  if (const int tell = g_tell; tell >= 0) {
    static_cast<void>(::write(tell, &signal, sizeof(signal)));
  }
}

}  // namespace

SignalCatcher::SignalCatcher(int tell) {
  g_tell = tell;
  for (std::size_t i = 0; i < std::min(g_count.load(), g_slots.size()); ++i) {
    g_slots[i].signal = 0;
  }
  g_count = 0;
  struct sigaction action {};
  action.sa_handler = &on_signal;
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGINT, &action, &int_);
  ::sigaction(SIGTERM, &action, &term_);
}

SignalCatcher::~SignalCatcher() {
  ::sigaction(SIGINT, &int_, nullptr);
  ::sigaction(SIGTERM, &term_, nullptr);
}

std::size_t SignalCatcher::count() {
  return g_count.load();
}

std::vector<Caught> SignalCatcher::caught() {
  std::vector<Caught> all;
  for (const Slot& slot : g_slots) {
    if (const int signal = slot.signal.load(std::memory_order_acquire); signal != 0) {
      all.push_back({signal, slot.tid, slot.at});
    }
  }
  return all;
}

bool quiet_for(std::chrono::nanoseconds time) {
  const auto until = Clock::now() + time;
  try {
    do {
      checkpoint();
      std::this_thread::sleep_for(std::min<std::chrono::nanoseconds>(time / 10, 5ms));
    } while (Clock::now() < until);
    checkpoint();
  } catch (const GuardException&) {
    return false;
  }
  return true;
}

int in_child(const std::function<void()>& body, const std::vector<std::string>& variables) {
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) {
    throw std::runtime_error("fork");
  }
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::signal(SIGINT, SIG_DFL);
    ::signal(SIGTERM, SIG_DFL);
    ::signal(SIGALRM, SIG_DFL);
    ::alarm(std::chrono::seconds(2 * kPatience).count());
    for (std::string variable : variables) {
      const std::size_t equals = variable.find('=');
      ::setenv(variable.substr(0, equals).c_str(), variable.c_str() + equals + 1, 1);
    }
    try {
      require(::getppid() == parent, "the parent is there");
      body();
    } catch (const GuardException& exception) {
      require(false, exception.what());
    } catch (const std::exception& exception) {
      require(false, exception.what());
    }
    ::_exit(0);
  }
  int status = -1;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {  // a guard of the caller
  }
  return status;
}

std::string describe_status(int status) {
  return WIFSIGNALED(status) ? "ended by signal " + std::to_string(WTERMSIG(status))
                             : "exited with " + std::to_string(WEXITSTATUS(status));
}

void require(bool condition, const char* what) {
  if (!condition) {
    static_cast<void>(std::fprintf(stderr, "in the child: %s\n", what));
    ::_exit(1);
  }
}

Pages::Pages(Bytes size) : size_(size.count) {
  void* data = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) {
    throw std::runtime_error("mmap");
  }
  ::madvise(data, size_, MADV_NOHUGEPAGE);
  data_ = static_cast<volatile char*>(data);
}

Pages::~Pages() {
  ::munmap(const_cast<char*>(data_), size_);
}

// Sanitizers would touch memory of their own beside it.
__attribute__((no_sanitize("thread"), no_sanitize("address"))) void Pages::touch(std::size_t from,
                                                                                 std::size_t to) {
  for (std::size_t at = from; at < to; at += 4096) {
    data_[at] = 1;
  }
}

void Pages::give_back() {
  ::madvise(const_cast<char*>(data_), size_, MADV_DONTNEED);
}

pid_t thread_named(const std::string& name) {
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string comm;
    std::getline(std::ifstream(task.path() / "comm"), comm);
    if (comm == name) {
      return std::stoi(task.path().filename());
    }
  }
  return 0;
}

long status_number(pid_t tid, const std::string& key) {
  std::ifstream status("/proc/self/task/" + std::to_string(tid) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(key + ":", 0) == 0) {
      return std::stol(line.substr(key.size() + 1));
    }
  }
  throw std::runtime_error("no " + key);
}

std::uint64_t rss_bytes() {
  std::uint64_t size = 0;
  std::uint64_t resident = 0;
  std::ifstream("/proc/self/statm") >> size >> resident;
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

std::size_t open_fds() {
  std::size_t count = 0;
  for (const auto& fd : std::filesystem::directory_iterator("/proc/self/fd")) {
    count += fd.path().empty() ? 0 : 1;
  }
  return count;
}

}  // namespace procguard::test
