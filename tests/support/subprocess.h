// SPDX-License-Identifier: Apache-2.0
// Starts programs for tests and leaves nothing behind.
//
// Everything started here, and all its descendants, carry PROCGUARD_TEST_ID=<uuid> in their
// environment; survivors() finds live ones whatever session, group or parent they moved to. The
// child has a session of its own, an empty signal mask and default signal actions, whatever the
// test runner had. A program that outlives its deadline is killed with all its descendants and the
// outcome says so. Not thread-safe; use one Subprocess from one thread.
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sys/fd.h"
#include "tests/support/processes.h"

namespace procguard::test {

struct Command {
  std::vector<std::string> argv = {};     // argv[0] is looked up in PATH
  std::vector<std::string> env = {};      // "NAME=value" adds or replaces, "NAME" removes
  std::optional<std::string> input = {};  // standard input; none = /dev/null
  bool hold_input = false;                // standard input is a pipe that stays open: see type()
  std::string cwd = {};
  std::vector<std::pair<int, rlimit>> limits = {};  // RLIMIT_...
  std::chrono::nanoseconds deadline = std::chrono::seconds(30);
  // The child gets a new terminal as its controlling terminal on 0, 1 and 2; all it prints is in
  // Outcome::out (with \r\n line ends).
  bool terminal = false;
  // Runs in the child just before exec, after signals were reset: async-signal-safe calls only.
  std::function<void()> before_exec = {};
  std::string executable = {};  // what to execute, where argv[0] is to be something else
};

struct Outcome {
  int exit_code = -1;   // -1: ended by a signal, or never started
  int term_signal = 0;  // 0: it exited
  bool core_dumped = false;
  bool timed_out = false;  // the deadline passed and it was killed
  std::string error;       // why it could not be started
  std::string out;
  std::string err;
  uint64_t wall_ns = 0;
  rusage usage{};  // of the child and the descendants it waited for

  // As a shell's $?: 128 + N for signal N.
  int status() const { return term_signal != 0 ? 128 + term_signal : exit_code; }
  // For messages of failed expectations.
  std::string describe() const;
};

class Subprocess {
 public:
  explicit Subprocess(const Command& command);
  Subprocess(const Subprocess&) = delete;
  Subprocess& operator=(const Subprocess&) = delete;
  ~Subprocess();  // kills what is left

  bool started() const { return outcome_.error.empty(); }
  pid_t pid() const { return pid_; }  // not reaped before wait() returns
  const std::string& id() const { return id_; }

  // False if it has already been reaped.
  bool send(int signal);
  // Writes to the held standard input or to the terminal.
  void type(const std::string& text);
  void close_input();
  // True when standard output (or error) so far contains `text`; false at the deadline of the
  // command, or once the child has ended without it.
  bool wait_for_output(const std::string& text);
  bool wait_for_error(const std::string& text);
  const std::string& output() const { return outcome_.out; }
  // Waits for the child, not for descendants that hold its pipes open.
  const Outcome& wait();

 private:
  struct Pipes;
  bool prepare(const Command& command, Pipes& pipes);
  void start(const Command& command);
  [[noreturn]] static void become(const Command& command, const Pipes& pipes,
                                  const char* executable, char* const* argv, char* const* envp);
  bool pump();  // one step: false when the child has ended
  void collect(sys::Fd& fd, std::string& text);
  void feed();
  void reap();
  bool wait_for(const std::string& text, const std::string& where);

  std::string id_;
  pid_t pid_ = -1;
  bool reaped_ = false;
  sys::Fd pidfd_;
  sys::Fd in_;
  sys::Fd out_;
  sys::Fd err_;
  std::string unwritten_;
  bool hold_input_ = false;
  std::chrono::steady_clock::time_point begin_;
  std::chrono::steady_clock::time_point deadline_;
  Outcome outcome_;
};

// Starts, waits, and kills descendants that are still alive. To look at those, use a Subprocess.
Outcome run(const Command& command);

// $PROCGUARD_BUILD, default "build", as an absolute path.
std::string build_dir();
std::string procguard_binary();                // build/procguard
std::string program(const std::string& name);  // build/programs/NAME

}  // namespace procguard::test
