// SPDX-License-Identifier: Apache-2.0
// ProcfsMembers: who belongs to a target, found by looking at /proc and cgroup.procs.
//
// A member is held by a pidfd that is opened at its discovery and proven after: from then on its
// pid cannot become somebody else's unnoticed. A tree is walked from its known members down; its
// orphans become children of the host, a child subreaper: so whoever is a new child of the host
// belongs to the tree (the host must not start processes of its own meanwhile). What is born and
// ends between two looks is not seen. One thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "core/clock.h"
#include "core/result.h"
#include "engine/procfs_options.h"
#include "engine/source.h"
#include "sys/cgroup.h"
#include "sys/fd.h"
#include "sys/procfs.h"

namespace procguard::engine {

// What counts for one process; kept by ProcfsAccounts.
struct ProcAccount {
  bool placed = false;       // the fields below are set
  core::Ns cpu_ns = 0;       // its threads, ended ones included
  core::Ns cpu_base_ns = 0;  // used before it was watched
  core::Ns reaped_ns = 0;    // of children it waited for
  core::Ns reaped_base_ns = 0;
  std::uint64_t rss_bytes = 0;
  std::uint64_t base_bytes = 0;  // shared with its parent since the fork
  std::uint64_t peak_bytes = 0;
  std::uint64_t peak_base_bytes = 0;  // a peak up to this was reached before it was watched
  bool shares = false;                // forked from a live member and not exec'd since
  bool borrows = false;               // runs in that member's address space
};

struct ProcMember {
  pid_t pid = 0;
  std::uint64_t start_ticks = 0;
  sys::Fd pidfd;            // none: too many files are open
  std::uint64_t inode = 0;  // of the pidfd: since 6.9 a process has one of its own
  bool fresh = false;       // born while watched
  bool settled = false;     // stopped before its children were listed: it gets no more
  sys::Stat stat;           // as of the last look
  ProcAccount account;
};

class ProcfsMembers {
 public:
  // A child of the host that is in none of this watch's trees: does it belong to another watch, or
  // might it?
  enum class Claim { kFree, kTaken, kUnclear };
  using ClaimOf = std::function<Claim(pid_t)>;
  // pidfds of members are put into `epoll` (borrowed) with event_data(id, pid).
  struct Context {
    const ProcfsOptions& options;
    int epoll;
    WatchId id;
    ClaimOf claim_of;
  };

  static std::uint64_t event_data(WatchId id, pid_t pid) {
    return id << 32U | static_cast<std::uint32_t>(pid);
  }

  ProcfsMembers(Context context, Target target)
      : context_(std::move(context)), target_(std::move(target)) {}
  ProcfsMembers(const ProcfsMembers&) = delete;
  ProcfsMembers& operator=(const ProcfsMembers&) = delete;
  ~ProcfsMembers();

  // Finds who is a member now; ESRCH: the target does not exist.
  Result<void> begin();
  // Finds newcomers, and moves who has ended (or left the cgroup) to ended(). ENODEV: the cgroup
  // has been removed.
  Result<void> refresh();

  // Its pidfd says that it has ended: moves it to ended() without a look at the others.
  void ended(pid_t pid);
  // The tree is being killed. From now on each look stops whom it finds, so that it ends with a
  // list of all: who is killed leaves room for others to fork into, who is stopped does not.
  void doom() { doomed_ = true; }

  std::map<pid_t, ProcMember>& live() { return live_; }
  const std::map<pid_t, ProcMember>& live() const { return live_; }
  // Since this was called last, with their final stat where it could still be read.
  std::vector<ProcMember> take_ended() { return std::exchange(ended_, {}); }

  // The pidfd of a live member that began at this time; ESRCH: there is none (any more).
  Result<sys::Fd> open(pid_t pid, core::Ns start_ns);
  // Members may be missing: orphans of this tree do not come to the host, or could be another's.
  bool degraded() const { return degraded_; }
  const Target& target() const { return target_; }
  const std::optional<sys::Cgroup>& cgroup() const { return cgroup_; }
  core::Ns begun_at_uptime() const { return begun_at_uptime_; }

 private:
  using Identity = std::pair<pid_t, std::uint64_t>;

  Result<void> begin_tree();
  Result<void> begin_cgroup();
  Result<void> refresh_cgroup();
  void refresh_tree();
  bool walk_down();
  bool adopt_orphans(int dead_in_a_row);
  bool adopt(pid_t pid, const std::function<bool(const sys::Stat&)>& belongs);
  void stop_doomed(const ProcMember& member) const;
  void hold(ProcMember& member);
  bool look(ProcMember& member) const;
  void drop_ended();
  void drop(std::map<pid_t, ProcMember>::iterator member);
  bool still_in_cgroup(pid_t pid) const;
  bool thread_lives() const;

  Context context_;
  Target target_;
  std::map<pid_t, ProcMember> live_;
  std::vector<ProcMember> ended_;
  std::set<Identity> not_ours_;  // children the host had before
  std::optional<sys::Cgroup> cgroup_;
  sys::CgroupMounts cgroup_mounts_;
  std::uint64_t thread_start_ticks_ = 0;
  core::Ns begun_at_uptime_ = 0;
  bool begun_ = false;
  bool orphans_come_ = false;
  bool degraded_ = false;
  bool doomed_ = false;
};

}  // namespace procguard::engine
