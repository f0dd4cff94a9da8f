// SPDX-License-Identifier: Apache-2.0
// A peer: a child that does one thing after another when told, so that a test can look in between.
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "sys/fd.h"

namespace procguard::test {

inline constexpr std::uint64_t kKiB = 1024;
inline constexpr std::uint64_t kMiB = 1024 * kKiB;
inline constexpr std::uint64_t kPage = 4096;

// A script's side of the line between a peer and the test. Forked children of the script may use it
// too.
class Script {
 public:
  void say(std::int64_t word = 0) const;  // to the test
  std::int64_t hear() const;              // from the test; ends the process if that is gone

 private:
  friend class Peer;
  int in_ = -1;
  int out_ = -1;
};

// A forked process of the test's own image. It holds no descriptor of the test but 0, 1, 2 and the
// line, and ends when the test does; so do forked children that come back to hear().
class Peer {
 public:
  explicit Peer(const std::function<void(Script&)>& script);
  // A program that is held before exec until the first tell(); its output is thrown away.
  static Peer program(std::vector<std::string> argv);
  Peer(Peer&& other) noexcept;
  Peer& operator=(Peer&&) = delete;
  ~Peer();  // kills and reaps

  pid_t pid() const { return pid_; }
  void tell(std::int64_t word = 0);
  // The next word of the script; a failure and -1 after `deadline`.
  std::int64_t hear(std::chrono::seconds deadline = std::chrono::seconds(20));
  // tell(), and hear() what comes of it.
  std::int64_t ask(std::int64_t word = 0);
  // Closes the test's side: whoever hears ends.
  void hang_up() { to_.reset(); }
  // Waits for its end (not for a word); the wait status. Kills it at the deadline.
  int wait(rusage* used = nullptr, std::chrono::seconds deadline = std::chrono::seconds(30));

 private:
  pid_t pid_ = -1;
  sys::Fd to_;
  sys::Fd from_;
};

// Numbers that the test shares with everything that is forked after it made them.
class SharedInts {
 public:
  explicit SharedInts(std::size_t count);
  SharedInts(const SharedInts&) = delete;
  SharedInts& operator=(const SharedInts&) = delete;
  ~SharedInts();

  std::atomic<int>& operator[](std::size_t i) const { return numbers_[i]; }

 private:
  std::atomic<int>* numbers_;
  std::size_t count_;
};
// Sleeps until `number` is not `value` any more; wake_all() after it was changed.
void wait_while(std::atomic<int>& number, int value);
void wake_all(std::atomic<int>& number);

// In a script: a forked child that runs `body` and ends. Returns its pid. As all of these it lives
// for a minute at most and no longer than the thread that made it, unless it says outlive_parent().
pid_t fork_child(const std::function<void()>& body);
// The same; it outlives its parent from the start.
pid_t fork_orphan(const std::function<void()>& body);
// As fork_child with these clone flags (without CLONE_VM and CLONE_THREAD) and, if not 0, this pid.
pid_t clone_child(std::uint64_t flags, const std::function<void()>& body, pid_t wanted = 0,
                  int cgroup_fd = -1);
// In a script: a process in the same address space (CLONE_VM, no thread) that runs `body`.
pid_t clone_vm_child(const std::function<void()>& body);
void limit_life(pid_t parent);  // for one that was made otherwise
void outlive_parent();
// Until something ends it.
[[noreturn]] void sleep_on();
// In a script: ends this thread only, also if it is the leader. No destructor runs.
[[noreturn]] void end_thread();
// Fresh pages, 4 KiB each, none touched. Fails the process if it cannot.
char* map_pages(std::uint64_t bytes);
// Writes to each page.
void touch(char* from, std::uint64_t bytes);
// Burns this much CPU time of the calling thread.
void burn_cpu(std::chrono::nanoseconds time);
void pin_to_cpu(int cpu);

}  // namespace procguard::test
