// SPDX-License-Identifier: Apache-2.0
// FakeSource: a source whose levels, members and kernel are what the test says. It writes the calls
// that matter into a journal that it shares with FakeSignaler, so that tests can see the order.
#pragma once

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine/source.h"
#include "tests/support/fake_clock.h"

namespace procguard::test {

using Journal = std::vector<std::string>;

class FakeSource final : public engine::Source {
 public:
  FakeSource(const FakeClock& clock, Journal& journal) : clock_(clock), journal_(journal) {}

  struct Watched {
    engine::Target target;
    engine::Thresholds thresholds;
    engine::Failsafe failsafe;
    std::uint64_t seen_episode[2] = {0, 0};
    engine::Levels levels;
    std::vector<engine::Member> members;
    engine::Usage usage;
    bool doomed = false;
    bool released = false;
    std::uint64_t unseen_bytes = 0;  // grown while nobody looked
  };

  // --- what the test says ---
  Watched& at(engine::WatchId watch) { return watches_.at(watch); }
  void add_member(engine::WatchId watch, pid_t pid) {
    at(watch).members.push_back({.pid = pid, .start_ns = static_cast<std::uint64_t>(pid) * 100});
    at(watch).levels.processes++;
  }
  void remove_member(engine::WatchId watch, pid_t pid) {
    auto& members = at(watch).members;
    std::erase_if(members, [pid](const engine::Member& m) { return m.pid == pid; });
    at(watch).levels.processes = members.size();
    at(watch).levels.empty = members.empty();
    unread_.insert(watch);
  }
  engine::Member& member(engine::WatchId watch, pid_t pid) {
    auto& members = at(watch).members;
    return *std::find_if(members.begin(), members.end(),
                         [pid](const engine::Member& m) { return m.pid == pid; });
  }
  void set_memory(engine::WatchId watch, std::uint64_t bytes) {
    at(watch).levels.memory_bytes = bytes;
    compare(watch);
  }
  void set_cpu(engine::WatchId watch, core::Ns used) {
    at(watch).levels.cpu_ns = used;
    compare(watch);
  }
  // The kernel sends the first step to this process, by memory threshold.
  void kernel_acts(engine::WatchId watch, int slot, pid_t pid) {
    at(watch).levels.memory[slot].kernel_acted_ns = clock_.now();
    at(watch).levels.memory[slot].kernel_acted_pid = static_cast<std::uint32_t>(pid);
    at(watch).levels.memory[slot].kernel_acted =
        at(watch).levels.memory[slot].episodes != at(watch).seen_episode[slot];
    unread_.insert(watch);
  }
  std::set<pid_t> ended;             // open_member: ESRCH
  std::map<pid_t, int> unopenable;   // open_member: errno
  int members_error = 0;             // errno of members()
  int levels_error = 0;              // errno of levels()
  int watch_error = 0;               // errno of watch()
  int thresholds_error = 0;          // errno of set_thresholds()
  core::Ns check_at = core::kNever;  // next_check()
  std::vector<pg_event> traced;
  std::vector<pg_guard> published;

  pid_t pid_of(int pidfd) const { return pidfds_.at(pidfd); }

  // --- Source ---
  const char* name() const override { return "fake"; }
  const char* membership() const override { return "fake"; }

  Result<engine::WatchId> watch(const engine::Target& target) override {
    if (watch_error != 0) {
      return Error::system("watching", watch_error);
    }
    const engine::WatchId id = next_++;
    watches_[id].target = target;
    if (target.pid != 0) {
      add_member(id, target.pid);
    }
    return id;
  }
  Result<void> set_thresholds(engine::WatchId watch,
                              const engine::Thresholds& thresholds) override {
    if (thresholds_error != 0) {
      return Error::system("setting thresholds", thresholds_error);
    }
    journal_.push_back("thresholds");
    at(watch).thresholds = thresholds;
    for (int slot = 0; slot < 2; ++slot) {
      engine::ThresholdState& state = at(watch).levels.memory[slot];
      const std::uint64_t before = std::exchange(state.limit, thresholds.memory[slot].bytes);
      changed_[slot] = before != state.limit;
      if (changed_[slot]) {
        state.over_since_ns = 0;
      }
    }
    const std::set<engine::WatchId> told = unread_;
    compare(watch);
    unread_ = told;  // the kernel tells of no crossing that user space has found
    for (int slot = 0; slot < 2; ++slot) {
      engine::ThresholdState& state = at(watch).levels.memory[slot];
      state.set_over_since_ns = changed_[slot] ? state.over_since_ns : state.set_over_since_ns;
    }
    return {};
  }
  Result<void> read_memory(engine::WatchId watch) override {
    journal_.push_back("read_memory");
    at(watch).levels.memory_bytes += std::exchange(at(watch).unseen_bytes, 0);
    return {};
  }
  void acknowledge(engine::WatchId watch, int slot, const engine::ThresholdState& seen) override {
    at(watch).levels.memory[slot].kernel_acted = false;
    at(watch).seen_episode[slot] = seen.episodes;
  }
  void set_failsafe(engine::WatchId watch, const engine::Failsafe& failsafe) override {
    at(watch).failsafe = failsafe;
  }
  void acknowledge_failsafe(engine::WatchId watch) override {
    at(watch).levels.failsafe_acted_ns = 0;
  }
  Result<engine::Levels> levels(engine::WatchId watch) override {
    if (levels_error != 0) {
      return Error::system("reading levels", levels_error);
    }
    return at(watch).levels;
  }
  void take_over(engine::WatchId) override { journal_.push_back("take_over"); }
  Result<std::vector<engine::Member>> members(engine::WatchId watch) override {
    if (members_error != 0) {
      return Error::system("listing members", members_error);
    }
    journal_.push_back("members");
    return at(watch).members;
  }
  Result<sys::Fd> open_member(engine::WatchId, const engine::Member& member) override {
    if (ended.contains(member.pid)) {
      return Error::system("pidfd_open", ESRCH);
    }
    if (auto found = unopenable.find(member.pid); found != unopenable.end()) {
      return Error::system("pidfd_open", found->second);
    }
    sys::Fd fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    pidfds_[fd.get()] = member.pid;
    return fd;
  }
  void doom(engine::WatchId watch) override {
    journal_.push_back("doom");
    at(watch).doomed = true;
  }
  void end_doom(engine::WatchId watch) override { at(watch).doomed = false; }
  Result<engine::Usage> usage(engine::WatchId watch) override { return at(watch).usage; }
  core::Ns exec_time(engine::WatchId, pid_t) override { return 0; }
  void release(engine::WatchId watch) override {
    journal_.push_back("release");
    at(watch).released = true;
  }
  int event_fd() const override { return -1; }
  std::vector<engine::WatchId> drain() override {
    std::vector<engine::WatchId> watches(unread_.begin(), unread_.end());
    unread_.clear();
    return watches;
  }
  core::Ns next_check(core::Ns) override { return check_at; }
  void trace(const pg_event& event) override { traced.push_back(event); }
  void publish(const pg_guard& guard) override { published.push_back(guard); }

 private:
  void compare(engine::WatchId watch, std::uint64_t limit, std::uint64_t level,
               engine::ThresholdState& state) {
    if (limit != 0 && level > limit && state.over_since_ns == 0) {
      state.over_since_ns = clock_.now();
      state.episodes++;
      unread_.insert(watch);
    } else if (state.over_since_ns != 0 && (limit == 0 || level < limit)) {
      state.over_since_ns = 0;
      unread_.insert(watch);
    }
  }
  void compare(engine::WatchId watch) {
    Watched& watched = at(watch);
    for (int slot = 0; slot < 2; ++slot) {
      compare(watch, watched.thresholds.memory[slot].bytes, watched.levels.memory_bytes,
              watched.levels.memory[slot]);
    }
    compare(watch, watched.thresholds.cpu_ns, watched.levels.cpu_ns, watched.levels.cpu);
  }

  const FakeClock& clock_;
  Journal& journal_;
  bool changed_[2] = {false, false};
  engine::WatchId next_ = 101;
  std::map<engine::WatchId, Watched> watches_;
  std::set<engine::WatchId> unread_;
  std::map<int, pid_t> pidfds_;
};

}  // namespace procguard::test
