// SPDX-License-Identifier: Apache-2.0
// Programs: the BPF object at work. Typed maps, attaching by group, the ring, the control programs.
// Owner of everything in the kernel: when it goes, all of it is detached and freed, unless it was
// pinned. One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bpf/contract.h"
#include "core/result.h"
#include "kernel/objects.h"

namespace procguard::kernel {

// Programs that are attached and detached together.
enum class Group {
  kLifecycle,  // membership, exec, exit
  kScheduler,  // CPU time, waits
  kMemory,     // RSS
  kDoom,       // ends members of doomed watches at their next return from a system call
  kFailsafe,   // the last step of time and CPU limits while no agent runs
};
inline constexpr int kGroups = 5;

class Programs {
 public:
  // Error code EPERM: capabilities are missing.
  static Result<std::unique_ptr<Programs>> load(const LoadOptions& options);
  // Takes over what another process pinned below `dir`, with what is attached. Errors: see
  // Objects::open().
  static Result<std::unique_ptr<Programs>> adopt(const std::string& dir);
  virtual ~Programs() = default;

  // From now on everything, links too, outlives this process.
  virtual Result<void> pin(const std::string& dir) = 0;

  virtual Result<void> attach(Group group) = 0;  // nothing if it is attached
  virtual void detach(Group group) = 0;
  virtual bool attached(Group group) const = 0;
  // The same on a thread of their own, for whoever has deadlines to keep: both may wait until every
  // CPU has forgotten what was detached last, by whomever: tens of milliseconds, and seconds on a
  // busy host. One at a time: false: not begun, the last one is still at work.
  virtual bool attach_aside(Group group) = 0;
  virtual bool detach_aside(Group group) = 0;

  // RSS sums are exact; false: they lag by up to 32 pages a CPU and part, see bpf/compat.bpf.h.
  virtual bool exact_sums() const = 0;

  // Shared with the kernel: change fields with atomic operations only.
  virtual std::span<pg_watch> watches() = 0;
  virtual pg_agent& agent() = 0;
  virtual const pg_losses& losses() const = 0;

  // Makes live tasks members as `request` says, in as many passes as it takes. `only`: just this
  // process is wanted, 0: look at all. Error code EAGAIN: whoever could be had is a member, but a
  // process that may have to be was still being made after milliseconds.
  virtual Result<void> enrol(pg_enrol request, std::uint32_t only) = 0;
  virtual Result<void> add_cgroup(std::uint64_t cgroup_id, std::uint64_t watch) = 0;
  virtual void remove_cgroup(std::uint64_t cgroup_id) = 0;

  // Forgets all members. Only while nothing is attached: ends would not be seen.
  virtual void clear() = 0;

  virtual std::optional<pg_process> process(std::uint32_t tgid) const = 0;
  virtual Result<std::vector<pg_process>> processes() const = 0;
  virtual std::optional<pg_thread> thread(std::uint32_t tid) const = 0;
  virtual Result<std::vector<pg_thread>> threads() const = 0;

  // Readable when the ring has records.
  virtual int ring_fd() const = 0;
  // Hands each well-formed record to `handler`; the number of malformed ones.
  virtual std::size_t consume(const std::function<void(const pg_edge&)>& handler) = 0;

  // A line for the trace pipe.
  virtual void trace(std::string_view line) = 0;
  // A record for `bpftool map event_pipe`.
  virtual void tell(const pg_event& event) = 0;

  // The guards map: what an adopting process finds.
  virtual void publish(const pg_guard& guard) = 0;  // one that is not armed is taken out
  virtual Result<std::vector<pg_guard>> guards() const = 0;
  // As many as there is room for; maps that were adopted have the size that they were made with.
  virtual std::size_t guards_max() const = 0;
  virtual void put_labels(std::uint64_t guard, std::string_view text) = 0;  // "": none
  virtual std::string labels(std::uint64_t guard) const = 0;
};

}  // namespace procguard::kernel
