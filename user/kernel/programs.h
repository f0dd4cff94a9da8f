// SPDX-License-Identifier: Apache-2.0
// Programs: the loaded BPF object. Typed maps, attaching by group, the ring, the control programs.
// Owner of everything in the kernel: when it goes, all of it is detached and freed. One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bpf/contract.h"
#include "core/result.h"

namespace procguard::kernel {

struct LoadOptions {
  std::uint32_t watches = 16;
  std::uint32_t processes = 16384;  // as many as can be members at once
  std::uint32_t threads = 32768;
  bool cgroups = true;  // false: loads faster, guards no cgroups
  bool memory = true;   // false: the memory program cannot be attached
};

// Programs that are attached and detached together.
enum class Group {
  kLifecycle,  // membership, exec, exit
  kScheduler,  // CPU time, waits
  kMemory,     // RSS
  kDoom,       // ends members of doomed watches at their next return from a system call
};
inline constexpr int kGroups = 4;

class Programs {
 public:
  // Error code EPERM: capabilities are missing.
  static Result<std::unique_ptr<Programs>> load(const LoadOptions& options);
  virtual ~Programs() = default;

  virtual Result<void> attach(Group group) = 0;  // nothing if it is attached
  virtual void detach(Group group) = 0;

  // RSS sums are exact; false: they lag by up to 32 pages a CPU and part, see bpf/compat.bpf.h.
  virtual bool exact_sums() const = 0;

  // Shared with the kernel: change fields with atomic operations only.
  virtual std::span<pg_watch> watches() = 0;
  virtual const pg_losses& losses() const = 0;

  // Makes live tasks members as `request` says, in as many passes as it takes.
  virtual Result<void> enrol(pg_enrol request) = 0;
  virtual Result<void> add_cgroup(std::uint64_t cgroup_id, std::uint64_t watch) = 0;
  virtual void remove_cgroup(std::uint64_t cgroup_id) = 0;

  virtual std::optional<pg_process> process(std::uint32_t tgid) const = 0;
  virtual Result<std::vector<pg_process>> processes() const = 0;
  virtual Result<std::vector<pg_thread>> threads() const = 0;

  // Readable when the ring has records.
  virtual int ring_fd() const = 0;
  // Hands each well-formed record to `handler`; the number of malformed ones.
  virtual std::size_t consume(const std::function<void(const pg_edge&)>& handler) = 0;

  virtual void trace(std::string_view line) = 0;
  virtual void publish(const pg_guard& guard) = 0;
};

}  // namespace procguard::kernel
