// SPDX-License-Identifier: Apache-2.0
// What the tests of `procguard run` share: starting a guarded command with a report, reading the
// report, measuring the command by getrusage, temporary directories and cgroups.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/subprocess.h"

namespace procguard::test {

using Json = nlohmann::json;
using Strings = std::vector<std::string>;

constexpr double kMiB = 1024.0 * 1024.0;

// A directory that everybody may write to, removed with what is in it.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// A v2 cgroup of our own; on destruction all in it and below it is killed and removed.
class TempCgroup {
 public:
  TempCgroup();
  ~TempCgroup();
  TempCgroup(const TempCgroup&) = delete;
  TempCgroup& operator=(const TempCgroup&) = delete;
  const std::string& path() const { return path_; }
  std::string make_child(const std::string& name);
  void add(pid_t pid) const;
  std::vector<pid_t> members() const;  // of this cgroup alone
  void remove();                       // must be empty

 private:
  std::string path_;
  Strings children_;
};

// What procguard and its command used and did, once both have ended.
struct Guarded {
  Outcome outcome;
  Json report;  // null: none was written
  std::string id;
  std::vector<pid_t> survivors;  // of the tree, when `run` had ended

  int status() const { return outcome.status(); }
  bool tripped() const { return report.is_object() && !report["trip"].is_null(); }
  std::string resource() const;                       // of the trip, "" without one
  Strings signals() const;                            // of the steps, "INT", "TERM", ...
  Strings results() const;                            // of the steps, "sent", ...
  double step_seconds(size_t from, size_t to) const;  // time between two steps
  double usage(const std::string& key) const;         // report["usage"][key]
  double wall_seconds() const { return static_cast<double>(outcome.wall_ns) / 1e9; }
  std::string describe() const;
};

// procguard run OPTIONS --report FILE -- COMMAND, with all of `base` (argv is set here).
class GuardedRun {
 public:
  GuardedRun(const Strings& options, const Strings& command, Command base = {});
  Subprocess& process() { return *process_; }
  // Waits for `run` alone; survivors are looked at at once, and killed on destruction.
  Guarded wait();

 private:
  TempDir dir_;
  std::unique_ptr<Subprocess> process_;
};

Guarded run_guarded(const Strings& options, const Strings& command, const Command& base = {});

// One process's end as its parent saw it.
struct Reaped {
  pid_t pid;
  int wait_status;
  long max_rss_kib;
  double cpu_seconds;
};
// COMMAND under the program `reap`, which waits for it and its orphans and keeps their rusage.
class Measured {
 public:
  Strings wrap(const Strings& command) const;
  std::vector<Reaped> all() const;
  long max_rss_kib() const;    // the largest
  double cpu_seconds() const;  // of all together

 private:
  TempDir dir_;
};

std::string read_text(const std::string& path);
void write_text(const std::string& path, const std::string& text);
// "Name:" of /proc/PID/status; "" if there is none.
std::string proc_status(pid_t pid, const std::string& name);
std::vector<pid_t> child_processes(pid_t pid);
pid_t child_named(pid_t pid, const std::string& comm);  // 0 = none
int line_count(const std::string& text);
int occurrences(const std::string& text, const std::string& part);

}  // namespace procguard::test
