// SPDX-License-Identifier: Apache-2.0
// The programs of bare.bpf.c from user space: the least way from a crossing in the kernel to a
// signal, and the programs that procguard's cost on a hook is measured by.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "core/clock.h"
#include "core/result.h"
#include "kernel/skeleton.h"

struct bare_bpf;
struct bpf_link;
struct bpf_program;
struct ring_buffer;

namespace procguard::bench {

// Loads bare.bpf.c; all links of its programs end with it. One thread.
class Bare {
 public:
  static Result<std::unique_ptr<Bare>> load();
  ~Bare();
  Bare(const Bare&) = delete;
  Bare& operator=(const Bare&) = delete;

  bare_bpf* operator->() const;
  Result<void> attach(bpf_program* program);
  void detach_all();

 private:
  struct Loaded;
  explicit Bare(std::unique_ptr<Loaded> loaded);
  std::unique_ptr<Loaded> loaded_;
};

// Ring -> epoll -> pidfd_send_signal, and nothing else.
class BareCrossing {
 public:
  static Result<std::unique_ptr<BareCrossing>> create();
  ~BareCrossing();
  BareCrossing(const BareCrossing&) = delete;
  BareCrossing& operator=(const BareCrossing&) = delete;

  // Sends `signal` when the process's anonymous memory exceeds `anon_bytes`. The kernel's cheap
  // count is compared, which lags by up to 32 pages a CPU.
  void arm(pid_t pid, int pidfd, int signal, std::uint64_t anon_bytes);
  // Waits for the crossing and sends the signal; when it was crossed (CLOCK_MONOTONIC).
  Result<core::Ns> signal_at_crossing();
  void disarm();

 private:
  explicit BareCrossing(std::unique_ptr<Bare> bare) : bare_(std::move(bare)) {}
  static int on_record(void* self, void* data, std::size_t size);

  std::unique_ptr<Bare> bare_;
  ring_buffer* ring_ = nullptr;
  int pidfd_ = -1;
  int signal_ = 0;
  core::Ns crossed_ns_ = 0;
};

}  // namespace procguard::bench
