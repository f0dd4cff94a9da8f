// SPDX-License-Identifier: Apache-2.0
// Child: a forked process that runs a function; killed and reaped at the end of the test. For
// programs use Subprocess.
#pragma once

#include <sys/prctl.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <functional>
#include <stdexcept>
#include <utility>

namespace procguard::test {

class Child {
 public:
  // `body` runs in the child, which exits with 0 after it. It dies with the test's thread.
  explicit Child(const std::function<void()>& body) {
    const pid_t parent = ::getpid();
    pid_ = ::fork();
    if (pid_ < 0) {
      throw std::runtime_error("fork");
    }
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() == parent) {
        body();
      }
      ::_exit(0);
    }
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() { end(); }

  pid_t pid() const { return pid_; }
  // Waits for the end; the wait status.
  int wait() {
    int status = -1;
    if (pid_ > 0) {
      ::waitpid(std::exchange(pid_, -1), &status, 0);
    }
    return status;
  }
  void end() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      (void)wait();
    }
  }

 private:
  pid_t pid_ = -1;
};

// For a child's body: wait for a signal that ends it.
[[noreturn]] inline void pause_forever() {
  for (;;) {
    ::pause();
  }
}

}  // namespace procguard::test
