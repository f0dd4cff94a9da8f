// SPDX-License-Identifier: Apache-2.0
// What `procguard run` says to people on standard error: the texts (pure), and the one place that
// writes them.
#pragma once

#include <deque>
#include <string>
#include <string_view>

#include "bpf/contract.h"
#include "core/clock.h"
#include "engine/executor.h"

namespace procguard::cli {

// A process as people name it; comm is whatever the process likes to be called.
struct Named {
  int pid = 0;
  std::string comm;
};

// "g1: memory 64.1MiB over limit 64.0MiB in pid 4242 (leak): SIGINT sent by the kernel 12us after
// the crossing". `step`: the first step of a limit's ladder. `since`: when the limit was crossed.
std::string trip_text(std::string_view guard, const pg_event& step, core::Ns since,
                      const Named& process);

// "g1: memory limit 1.0TiB is above the 15.6GiB of RAM of this machine".
std::string above_ram_text(std::string_view guard, std::uint64_t limit_bytes,
                           std::uint64_t ram_bytes);

// Lines on standard error, each with "procguard: " before it. Never blocks: the ladder must go on
// when whoever reads standard error does not. Lines that find no room wait, up to a number.
class Messages {
 public:
  explicit Messages(int fd = 2) : fd_(fd) {}
  ~Messages() { flush(kPatienceMs); }
  Messages(const Messages&) = delete;
  Messages& operator=(const Messages&) = delete;

  void be_quiet() { quiet_ = true; }

  void error(std::string_view text) { put(text); }
  // Not with -q.
  void note(std::string_view text) {
    if (!quiet_) {
      put(text);
    }
  }

 private:
  static constexpr int kPatienceMs = 1000;
  static constexpr std::size_t kMaxWaiting = 256;

  void put(std::string_view text);
  void flush(int patience_ms);

  int fd_;
  bool quiet_ = false;
  std::deque<std::string> waiting_;
};

}  // namespace procguard::cli
