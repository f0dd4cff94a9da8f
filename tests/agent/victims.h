// SPDX-License-Identifier: Apache-2.0
// Victims: forked processes that do what a guard is to end. What they have come to stands on a
// board that they share with the test.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <functional>
#include <vector>

#include "core/clock.h"
#include "tests/agent/agent_under_test.h"

namespace procguard::test {

struct Board {
  std::atomic<bool> ready;
  std::atomic<pid_t> tid;         // of its second thread
  std::atomic<pid_t> child;       // its child, or grandchild
  std::atomic<bool> become_root;  // asked of the child
  std::atomic<bool> is_root;
  std::atomic<core::Ns> grow_at_ns;
  std::atomic<core::Ns> near_ns;    // it has grown to a little less than kGrowsOver
  std::atomic<core::Ns> beyond_ns;  // ... to a little more
};

// Growing is by 64 KiB every half a millisecond, to twice this. An instrumented process grows by a
// lot beside that.
#ifdef __SANITIZE_ADDRESS__
inline constexpr std::uint64_t kGrowsOver = 96 << 20;
inline constexpr std::uint64_t kGrowsSlack = 64 << 20;
#else
inline constexpr std::uint64_t kGrowsOver = 16 << 20;
inline constexpr std::uint64_t kGrowsSlack = 1 << 20;
#endif

class Victim {
 public:
  Victim();
  Victim(const Victim&) = delete;
  Victim& operator=(const Victim&) = delete;
  ~Victim();

  static constexpr uid_t kUser = 12345;

  using Body = void (*)(Board&);
  // Returns when the board says that it is ready.
  void start(Body body);
  pid_t pid() const { return process_->pid(); }
  std::vector<pid_t> members() const;  // its child too
  Board& board() const { return *board_; }
  bool alive() const { return process_->alive(); }

  // --- bodies
  static void sleep(Board& board);
  static void ignore_int(Board& board);
  static void have_a_thread(Board& board);
  static void have_a_grandchild(Board& board);  // in a session of its own
  static void grow(Board& board);               // from grow_at_ns on
  static void grow_by_a_child(Board& board);
  static void nap(Board& board);
  static void spin_on(Board& board);
  // Of kUser; its child becomes root when it is asked to, and spins.
  static void be_a_user(Board& board);
  // Of load beside:
  static void fork_without_end();
  static void spin();

 private:
  Board* board_;
  std::unique_ptr<Sleeper> process_;
  sys::Fd child_;
};

}  // namespace procguard::test
