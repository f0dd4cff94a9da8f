// SPDX-License-Identifier: Apache-2.0
// Source: where usage and membership come from. Two live behind this interface: `bpf` (the kernel
// tells of crossings) and `procfs` (polls; where BPF cannot be had, and the oracle in tests).
// One thread; never blocks, never decides.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bpf/contract.h"
#include "core/clock.h"
#include "core/result.h"
#include "sys/fd.h"

namespace procguard::engine {

using WatchId = std::uint64_t;

// What is watched. thread: pid and tid; process, tree: pid; cgroup: path of the v2 directory and
// its inode number.
struct Target {
  pg_scope scope = PG_SCOPE_PROCESS;
  pid_t pid = 0;
  pid_t tid = 0;
  std::string cgroup_path;
  std::uint64_t cgroup_id = 0;
  std::uint32_t owner_uid = 0;
  bool any_uid = false;        // the owner may signal whom it likes (CAP_KILL)
  std::uint64_t start_ns = 0;  // of `pid`, by the source; set by who watches
};

// The limits in force on a watch; 0 = none. `kernel_signal`: where it can, the kernel sends this
// itself at the crossing of the memory threshold.
struct Thresholds {
  struct Memory {
    std::uint64_t bytes = 0;
    std::uint32_t kernel_signal = 0;
  };
  Memory memory[2];
  std::uint64_t cpu_ns = 0;  // absolute: compared with Levels::cpu_ns
};

// The last step that the kernel takes by itself while no agent runs; 0 = none. `memory_bytes`,
// `cpu_ns`: as in Thresholds. Each with its signal.
struct Failsafe {
  std::uint64_t memory_bytes = 0;
  core::Ns memory_grace_ns = 0;
  std::uint64_t cpu_ns = 0;
  core::Ns due_ns = 0;  // CLOCK_MONOTONIC
  std::uint32_t memory_signal = 0;
  std::uint32_t cpu_signal = 0;
  std::uint32_t due_signal = 0;

  bool operator==(const Failsafe&) const = default;
};

struct ThresholdState {
  core::Ns over_since_ns = 0;  // 0 = not over
  std::uint64_t episodes = 0;
  core::Ns kernel_acted_ns = 0;  // 0 = the kernel sent nothing (in any episode)
  std::uint32_t kernel_acted_pid = 0;
  bool kernel_acted = false;  // and that is news: see acknowledge()
  std::uint64_t limit = 0;    // what is in force
  std::uint32_t kernel_signal = 0;
  core::Ns set_over_since_ns = 0;  // over_since_ns right after it was put in force
};

struct Levels {
  std::uint64_t memory_bytes = 0;  // design: a forked child counts what it grew
  std::uint64_t memory_plain_bytes = 0;
  std::uint64_t memory_peak_bytes = 0;
  std::uint64_t memory_plain_peak_bytes = 0;
  std::uint64_t cpu_ns = 0;  // since the watch began; ended members included
  std::uint64_t processes = 0;
  bool empty = false;     // it had members and the last one has ended
  bool removed = false;   // the cgroup is no more
  bool degraded = false;  // members may be missing
  bool doomed = false;    // see doom(); the failsafe dooms too
  ThresholdState memory[2];
  ThresholdState cpu;
  // The failsafe step that the kernel took; failsafe_acted_ns 0: none.
  core::Ns failsafe_acted_ns = 0;
  std::uint32_t failsafe_acted_pid = 0;
  std::uint32_t failsafe_resource = 0;
};

// A live member. (pid, start_ns) names it; only open_member() makes it something to signal.
struct Member {
  pid_t pid = 0;
  std::uint64_t start_ns = 0;  // procfs source: start time in clock ticks scaled to ns
  // The source knows that it is no kernel thread; else whoever signals it has to look.
  bool is_user_process = false;
  // The kernel step of the present episode has reached it, by memory threshold.
  bool kernel_signalled[2] = {false, false};
};

struct ThreadUsage {
  pid_t pid = 0;
  pid_t tid = 0;
  std::string comm;
  char state = '?';  // R, S, D, T, ...: as /proc/PID/stat says; X: it has ended
  pg_usage usage{};  // slice and sleep in progress added
};

struct Usage {
  pg_usage total{};                  // live and ended threads
  std::vector<ThreadUsage> threads;  // live ones, and the ended one that grew the memory most
};

class Source {
 public:
  virtual ~Source() = default;

  virtual const char* name() const = 0;        // "bpf", "procfs"
  virtual const char* membership() const = 0;  // "bpf", "subreaper", "cgroup"

  // Begins to watch; from then on no descendant (tree) or newcomer (cgroup) escapes.
  virtual Result<WatchId> watch(const Target& target) = 0;
  // Puts thresholds in force, then compares the levels: already over counts as a crossing now.
  virtual Result<void> set_thresholds(WatchId watch, const Thresholds& thresholds) = 0;
  virtual Result<Levels> levels(WatchId watch) = 0;
  // Makes the memory level of a watch that had no memory threshold so far that of now.
  virtual Result<void> read_memory(WatchId watch) = 0;
  // What was read of this memory threshold is known: a kernel step of its episode is news no more.
  virtual void acknowledge(WatchId watch, int slot, const ThresholdState& seen) = 0;
  // Nothing where the source cannot act by itself.
  virtual void set_failsafe(WatchId watch, const Failsafe& failsafe) = 0;
  // The failsafe step is known: levels() tells it no more.
  virtual void acknowledge_failsafe(WatchId watch) = 0;
  // Takes the present episodes over from the kernel: it sends no further first step in them.
  virtual void take_over(WatchId watch) = 0;

  virtual Result<std::vector<Member>> members(WatchId watch) = 0;
  // A pidfd that is proven to be this member. ESRCH: it has ended.
  virtual Result<sys::Fd> open_member(WatchId watch, const Member& member) = 0;

  // From now on every member that runs or is born is killed by the kernel, where it can.
  virtual void doom(WatchId watch) = 0;
  // Nobody is left of those who were doomed: whoever comes later (into a cgroup) lives.
  virtual void end_doom(WatchId /*watch*/) {}
  virtual Result<Usage> usage(WatchId watch) = 0;
  // When the process last completed an exec, CLOCK_MONOTONIC; 0 = not since it is watched.
  virtual core::Ns exec_time(WatchId watch, pid_t pid) = 0;
  virtual void release(WatchId watch) = 0;

  // Readable (level-triggered) when drain() has something; -1 if it never is.
  virtual int event_fd() const = 0;
  // Watches whose levels are worth reading, each once. After a loss: all of them.
  virtual std::vector<WatchId> drain() = 0;
  // When the source itself wants drain() called; kNever for a source that is told everything.
  virtual core::Ns next_check(core::Ns now) = 0;

  // One readable line in the kernel's trace pipe, where there is one.
  virtual void trace(const pg_event& event) = 0;
  // Publishes the guard's state for bpftool; nothing where there is no map.
  virtual void publish(const pg_guard& guard) = 0;
};

}  // namespace procguard::engine
