// SPDX-License-Identifier: Apache-2.0
// FakeProc: a /proc with declared processes, and pidfds to go with it. What a test does not change
// stays as it was.
#pragma once

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "core/clock.h"
#include "engine/procfs_options.h"
#include "sys/fd.h"
#include "sys/pidfd.h"
#include "tests/support/temp_tree.h"

namespace procguard::test {

struct FakeProcess {
  pid_t pid = 0;
  pid_t ppid = 1;
  char state = 'S';
  std::uint64_t start_ticks = 5000;
  std::uint64_t rss_bytes = 0;
  std::uint64_t peak_bytes = 0;
  std::uint64_t ticks = 0;           // user time, 10 ms each
  std::uint64_t children_ticks = 0;  // of children it waited for
  std::string program = "sh";        // processes with the same one are forks of each other
  std::string comm = "x";
  std::map<pid_t, core::Ns> threads = {};  // CPU time by tid; empty: the leader with none
  int switches = 0;
};

class FakeProc {
 public:
  static constexpr pid_t kSelf = 100;

  FakeProc() {
    tree_.link("self", std::to_string(kSelf));
    tree_.write("uptime", "60.00 0.00\n");  // that is tick 6000
    set({.pid = kSelf});
  }

  const TempTree& tree() const { return tree_; }

  engine::ProcfsOptions options() {
    return {.proc = sys::ProcRoot(tree_.path()),
            .self = kSelf,
            .cpus = 2,
            .adopts_orphans = [this] { return subreaper; },
            .open_pidfd = [this](pid_t pid) { return open_pidfd(pid); },
            .share_address_space = [this](pid_t one, pid_t other) -> Result<bool> {
              return borrowers.contains({one, other});
            },
            .stop = [this](int) { ++stopped; }};
  }

  // Adds it, or changes it.
  void set(const FakeProcess& process) {
    const bool added = processes_.insert_or_assign(process.pid, process).second;
    if (added) {
      ends_[process.pid] = sys::Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    }
    write(process);
    write_children();
  }
  FakeProcess& at(pid_t pid) { return processes_.at(pid); }
  void update(pid_t pid) { set(processes_.at(pid)); }

  // It has ended and waits for being waited for; its children go to the host.
  void become_zombie(pid_t pid) {
    FakeProcess& process = processes_.at(pid);
    process.state = 'Z';
    process.rss_bytes = 0;
    write(process);
    finish(pid);
  }
  // It has ended and was waited for by its parent.
  void end(pid_t pid) {
    finish(pid);
    const FakeProcess gone = processes_.at(pid);
    processes_.erase(pid);
    tree_.remove(std::to_string(pid));
    if (const auto parent = processes_.find(gone.ppid); parent != processes_.end()) {
      parent->second.children_ticks += gone.ticks + gone.children_ticks;
      write(parent->second);
    }
    write_children();
  }

  bool subreaper = true;
  std::set<std::pair<pid_t, pid_t>> borrowers;  // who runs in whose address space
  std::set<pid_t> unopenable;                   // EMFILE
  int opened = 0;
  int stopped = 0;

 private:
  Result<sys::Fd> open_pidfd(pid_t pid) {
    ++opened;
    if (unopenable.contains(pid)) {
      return Error::system("pidfd_open", EMFILE);
    }
    if (!processes_.contains(pid)) {
      return Error::system("pidfd_open", ESRCH);
    }
    return sys::duplicate_fd(ends_.at(pid).get());
  }

  void finish(pid_t pid) {
    const std::uint64_t one = 1;
    if (ends_.contains(pid)) {
      (void)!::write(ends_.at(pid).get(), &one, sizeof(one));
    }
    for (auto& [other, process] : processes_) {
      if (process.ppid == pid) {
        process.ppid = kSelf;
        write(process);
      }
    }
    write_children();
  }

  void write(const FakeProcess& process) const {
    const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    const std::string pid = std::to_string(process.pid);
    auto threads = process.threads;
    threads.try_emplace(process.pid, 0);
    const std::string size = process.state == 'Z' ? "0" : "999";
    const std::string statm =
        size + " " + std::to_string(process.rss_bytes / page) + " 0 0 0 0 0\n";
    const std::string status =
        std::string("State:\t") + process.state + " (x)\nUid:\t0\t0\t0\t0\nVmHWM:\t" +
        std::to_string(std::max(process.peak_bytes, process.rss_bytes) / 1024) +
        " kB\nvoluntary_ctxt_switches:\t" + std::to_string(process.switches) +
        "\nnonvoluntary_ctxt_switches:\t2\n";
    tree_.write(pid + "/stat", stat_text(process, process.pid, threads.size()));
    tree_.write(pid + "/statm", statm);
    tree_.write(pid + "/status", status);
    tree_.write("bin/" + process.program, "");
    tree_.link(pid + "/exe", tree_.at("bin/" + process.program));
    for (const auto& [tid, cpu] : threads) {
      const std::string task = pid + "/task/" + std::to_string(tid);
      tree_.write(task + "/stat", stat_text(process, tid, threads.size()));
      tree_.write(task + "/status", status);
      tree_.write(task + "/schedstat", std::to_string(cpu) + " 7000000 3\n");
      tree_.write(task + "/statm", statm);
    }
  }

  static std::string stat_text(const FakeProcess& process, pid_t id, std::size_t threads) {
    const std::size_t program = std::hash<std::string>{}(process.program) % 1000000 + 1;
    return std::to_string(id) + " (" + process.comm + ") " + process.state + " " +
           std::to_string(process.ppid) + " 1 1 0 -1 0 0 0 0 0 " + std::to_string(process.ticks) +
           " 0 " + std::to_string(process.children_ticks) + " 0 20 0 " + std::to_string(threads) +
           " 0 " + std::to_string(process.start_ticks) + " 0 0 0 4096 8192 " +
           std::to_string(program) + " 0 0\n";
  }

  void write_children() const {
    for (const auto& [pid, process] : processes_) {
      std::string children;
      for (const auto& [other, child] : processes_) {
        children += child.ppid == pid ? std::to_string(other) + " " : "";
      }
      const std::string task = std::to_string(pid) + "/task/" + std::to_string(pid);
      tree_.write(task + "/children", children);
    }
  }

  TempTree tree_;
  std::map<pid_t, FakeProcess> processes_;
  std::map<pid_t, sys::Fd> ends_;
};

}  // namespace procguard::test
