// SPDX-License-Identifier: Apache-2.0
#include "tests/support/peer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/close_range.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdlib>
#include <ctime>
#include <utility>

#include "tests/support/processes.h"

namespace procguard::test {
namespace {

using std::chrono::steady_clock;

constexpr int kPeerIn = 100;  // the numbers of a peer's two descriptors
constexpr int kPeerOut = 101;
constexpr unsigned kPeerLifeSeconds = 60;
constexpr int kScriptFailed = 99;

void make_pipe(sys::Fd& read_end, sys::Fd& write_end) {
  std::array<int, 2> fds{};
  if (::pipe2(fds.data(), O_CLOEXEC) != 0) {
    std::abort();
  }
  read_end.reset(fds[0]);
  write_end.reset(fds[1]);
}

// Where a write to a peer that has died fails and does not end the test binary, as one to a pipe
// would.
void make_line(sys::Fd& read_end, sys::Fd& write_end) {
  std::array<int, 2> fds{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) != 0) {
    std::abort();
  }
  read_end.reset(fds[0]);
  write_end.reset(fds[1]);
}

// In the new process: nothing of the test's stays open, its BPF links above all.
void keep_only_line(int in, int out) {
  ::dup3(in, kPeerIn, O_CLOEXEC);
  ::dup3(out, kPeerOut, O_CLOEXEC);
  ::syscall(SYS_close_range, 3, kPeerIn - 1, 0);
  ::syscall(SYS_close_range, kPeerOut + 1, ~0U, 0);
}

}  // namespace

void Script::say(std::int64_t word) const {
  if (::write(out_, &word, sizeof(word)) != sizeof(word)) {
    ::_exit(kScriptFailed);
  }
}

std::int64_t Script::hear() const {
  std::int64_t word = 0;
  ssize_t size = 0;
  do {
    size = ::read(in_, &word, sizeof(word));
  } while (size < 0 && errno == EINTR);
  if (size != sizeof(word)) {
    ::_exit(0);
  }
  return word;
}

Peer::Peer(const std::function<void(Script&)>& script) {
  sys::Fd script_in;
  sys::Fd script_out;
  make_line(script_in, to_);
  make_pipe(from_, script_out);
  const pid_t test = ::getpid();
  pid_ = ::fork();
  if (pid_ < 0) {
    std::abort();
  }
  if (pid_ > 0) {
    return;
  }
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::alarm(kPeerLifeSeconds);
  if (::getppid() != test) {
    ::_exit(kScriptFailed);
  }
  keep_only_line(script_in.get(), script_out.get());
  Script line;
  line.in_ = kPeerIn;
  line.out_ = kPeerOut;
  script(line);
  ::_exit(0);
}

Peer Peer::program(std::vector<std::string> argv) {
  return Peer([argv = std::move(argv)](Script& line) {
    std::vector<char*> pointers;
    for (const std::string& argument : argv) {
      pointers.push_back(const_cast<char*>(argument.c_str()));
    }
    pointers.push_back(nullptr);
    line.hear();
    const int nowhere = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd < 3; ++fd) {
      ::dup2(nowhere, fd);
    }
    ::execv(pointers[0], pointers.data());
    ::_exit(kScriptFailed);
  });
}

Peer::Peer(Peer&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      to_(std::move(other.to_)),
      from_(std::move(other.from_)) {}

Peer::~Peer() {
  hang_up();
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
}

void Peer::tell(std::int64_t word) {
  if (::send(to_.get(), &word, sizeof(word), MSG_NOSIGNAL) != sizeof(word)) {
    ADD_FAILURE() << "telling the peer: it is gone";
  }
}

std::int64_t Peer::hear(std::chrono::seconds deadline) {
  const auto milliseconds = std::chrono::milliseconds(deadline).count();
  pollfd ready{from_.get(), POLLIN, 0};
  std::int64_t word = -1;
  if (::poll(&ready, 1, static_cast<int>(milliseconds)) <= 0 ||
      ::read(from_.get(), &word, sizeof(word)) != sizeof(word)) {
    ADD_FAILURE() << "the peer says nothing (state " << process_state(pid_) << ")";
    return -1;
  }
  return word;
}

std::int64_t Peer::ask(std::int64_t word) {
  tell(word);
  return hear();
}

int Peer::wait(rusage* used, std::chrono::seconds deadline) {
  int status = -1;
  rusage usage{};
  const auto ended = [&] { return ::wait4(pid_, &status, WNOHANG, &usage) != 0; };
  if (!wait_until(ended, deadline)) {
    ADD_FAILURE() << "the peer does not end";
    ::kill(pid_, SIGKILL);
    ::wait4(pid_, &status, 0, &usage);
  }
  pid_ = -1;
  if (used != nullptr) {
    *used = usage;
  }
  return status;
}

SharedInts::SharedInts(std::size_t count) : count_(count) {
  void* at = ::mmap(nullptr, count * sizeof(std::atomic<int>), PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) {
    std::abort();
  }
  numbers_ = static_cast<std::atomic<int>*>(at);  // zeros
}

SharedInts::~SharedInts() {
  ::munmap(numbers_, count_ * sizeof(std::atomic<int>));
}

void wait_while(std::atomic<int>& number, int value) {
  while (number == value) {
    ::syscall(SYS_futex, &number, FUTEX_WAIT, value, nullptr, nullptr, 0);
  }
}

void wake_all(std::atomic<int>& number) {
  ::syscall(SYS_futex, &number, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

pid_t fork_child(const std::function<void()>& body) {
  return clone_child(0, body);
}

pid_t fork_orphan(const std::function<void()>& body) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::alarm(kPeerLifeSeconds);
    body();
    ::_exit(0);
  }
  return pid;
}

pid_t clone_child(std::uint64_t flags, const std::function<void()>& body, pid_t wanted,
                  int cgroup_fd) {
  clone_args arguments{};
  arguments.flags = flags | (cgroup_fd >= 0 ? CLONE_INTO_CGROUP : 0);
  // A child for its parent's parent has that one's exit signal.
  arguments.exit_signal = (flags & CLONE_PARENT) != 0 ? 0 : SIGCHLD;
  arguments.cgroup = cgroup_fd >= 0 ? static_cast<__u64>(cgroup_fd) : 0;
  if (wanted != 0) {
    arguments.set_tid = reinterpret_cast<std::uintptr_t>(&wanted);
    arguments.set_tid_size = 1;
  }
  const pid_t parent = (flags & CLONE_PARENT) != 0 ? ::getppid() : ::getpid();
  const auto pid = static_cast<pid_t>(::syscall(SYS_clone3, &arguments, sizeof(arguments)));
  if (pid == 0) {
    limit_life(parent);
    body();
    ::_exit(0);
  }
  return pid;
}

pid_t clone_vm_child(const std::function<void()>& body) {
  constexpr std::uint64_t kStack = 256 * kKiB;
  struct Start {
    std::function<void()> body;
    pid_t parent;
  };
  auto* start = new Start{body, ::getpid()};  // lives as long as the address space
  const auto run = [](void* argument) -> int {
    const auto* mine = static_cast<const Start*>(argument);
    limit_life(mine->parent);
    mine->body();
    ::_exit(0);
  };
  return ::clone(run, map_pages(kStack) + kStack, CLONE_VM | SIGCHLD, start);
}

void limit_life(pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::alarm(kPeerLifeSeconds);
  if (::getppid() != parent) {
    ::_exit(kScriptFailed);  // it has ended before we said so
  }
}

void outlive_parent() {
  ::prctl(PR_SET_PDEATHSIG, 0);
}

void sleep_on() {
  for (;;) {
    ::pause();
  }
}

void end_thread() {
  for (;;) {
    ::syscall(SYS_exit, 0);
  }
}

char* map_pages(std::uint64_t bytes) {
  void* at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) {
    ::_exit(kScriptFailed);
  }
  ::madvise(at, bytes, MADV_NOHUGEPAGE);
  return static_cast<char*>(at);
}

void touch(char* from, std::uint64_t bytes) {
  for (std::uint64_t at = 0; at < bytes; at += kPage) {
    static_cast<volatile char*>(from)[at] = 1;
  }
}

void burn_cpu(std::chrono::nanoseconds time) {
  const auto used = [] {
    timespec now{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
  };
  const auto end = used() + time;
  volatile std::uint64_t sink = 0;
  while (used() < end) {
    for (std::uint64_t i = 0; i < 20000; ++i) {
      sink = sink + i;
    }
  }
}

void pin_to_cpu(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<unsigned>(cpu), &set);
  if (::sched_setaffinity(0, sizeof(set), &set) != 0) {
    ::_exit(kScriptFailed);
  }
}

}  // namespace procguard::test
