// SPDX-License-Identifier: Apache-2.0
#include "cli/group_witness.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>
#include <utility>

namespace procguard::cli {
namespace {

constexpr int kAnswerMs = 200;  // it needs microseconds; stopped or starved it needs for ever

// Async-signal-safe calls only.
[[noreturn]] void witness(int line) {
  ::prctl(PR_SET_NAME, "procguard-group");
  // Nothing of the parent's may be kept open here.
  if (line > 0) {
    ::close_range(0, static_cast<unsigned>(line) - 1, 0);
  }
  ::close_range(static_cast<unsigned>(line) + 1, ~0U, 0);
  sigset_t all;
  ::sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, nullptr);
  char question = 0;
  while (::read(line, &question, 1) == 1) {
    std::uint64_t seen = 0;
    const timespec at_once{};
    for (int signal = 0; (signal = ::sigtimedwait(&all, nullptr, &at_once)) > 0;) {
      seen |= 1ULL << (signal - 1);
    }
    if (::send(line, &seen, sizeof(seen), MSG_NOSIGNAL) != static_cast<ssize_t>(sizeof(seen))) {
      break;
    }
  }
  ::_exit(0);
}

}  // namespace

Result<GroupWitness> GroupWitness::start() {
  int lines[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, lines) != 0) {
    return Error::system("socketpair", errno);
  }
  sys::Fd ours(lines[0]);
  sys::Fd theirs(lines[1]);
  const pid_t pid = ::fork();
  if (pid < 0) {
    return Error::system("fork", errno);
  }
  if (pid == 0) {
    witness(theirs.get());
  }
  return GroupWitness(pid, std::move(ours));
}

GroupWitness::GroupWitness(GroupWitness&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), line_(std::move(other.line_)) {}

GroupWitness::~GroupWitness() {
  if (pid_ < 0) {
    return;
  }
  line_.reset();  // its end of file
  // ECHILD: the host's loop reaped it already, somebody killed it.
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

std::uint64_t GroupWitness::take() {
  const char question = '?';
  std::uint64_t seen = 0;
  pollfd ready{.fd = line_.get(), .events = POLLIN, .revents = 0};
  if (!line_ || ::send(line_.get(), &question, 1, MSG_NOSIGNAL) != 1 ||
      ::poll(&ready, 1, kAnswerMs) != 1 ||
      ::recv(line_.get(), &seen, sizeof(seen), 0) != static_cast<ssize_t>(sizeof(seen))) {
    line_.reset();  // a late answer must not be taken for the next one
    return 0;
  }
  return seen;
}

}  // namespace procguard::cli
