// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/watched.h"

#include <dirent.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <sstream>
#include <thread>

#include "sys/caps.h"
#include "sys/cgroup.h"
#include "sys/procfs.h"

namespace procguard::test {
namespace {

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::uint64_t kib_field(const std::string& status, const char* name) {
  const std::string text(sys::status_field(status, name));
  return std::strtoull(text.c_str(), nullptr, 10) * kKiB;
}

// Uninterruptible for a moment is waiting for a page of the program; for longer, what a test made
// of it (a parent in vfork).
constexpr auto kLongerThanAPage = std::chrono::milliseconds(30);

bool is_parked(char state) {
  return state != 'R' && state != '?';
}

}  // namespace

std::string why_no_bpf() {
  auto capabilities = sys::read_capabilities();
  if (!capabilities) {
    return capabilities.error().message();
  }
  if (const auto missing = sys::missing_for_bpf(capabilities.value()); !missing.empty()) {
    return "BPF needs " + missing.front();
  }
  if (::access("/sys/kernel/btf/vmlinux", R_OK) != 0) {
    return "this kernel has no BTF";
  }
  return "";
}

Rss rss_of(pid_t pid, pid_t tid) {
  const std::string proc =
      "/proc/" + std::to_string(pid) + "/task/" + std::to_string(tid == 0 ? pid : tid);
  const std::string status = read_file(proc + "/status");
  const auto statm = sys::parse_statm(read_file(proc + "/statm"));
  return {kib_field(status, "RssFile"), kib_field(status, "RssAnon"), kib_field(status, "RssShmem"),
          statm ? statm->resident * kPage : 0};
}

bool at_rest(const std::vector<pid_t>& pids) {
  const sys::ProcRoot proc;
  bool in_disk_wait = false;
  const auto rests = [&](pid_t pid) {
    auto tids = proc.threads(pid);
    return !tids || std::all_of(tids->begin(), tids->end(), [&](pid_t tid) {
      auto stat = proc.thread_stat(pid, tid);
      in_disk_wait = in_disk_wait || (stat && stat->state == 'D');
      return !stat || is_parked(stat->state);
    });
  };
  // Twice: a thread that is woken by another may have been looked at before.
  return wait_until([&] {
    in_disk_wait = false;
    const bool first = std::all_of(pids.begin(), pids.end(), rests);
    if (first && in_disk_wait) {
      std::this_thread::sleep_for(kLongerThanAPage);
    }
    return first && std::all_of(pids.begin(), pids.end(), rests);
  });
}

void Watched::SetUp() {
  if (const std::string reason = why_no_bpf(); !reason.empty()) {
    GTEST_SKIP() << reason;
  }
  load({});
}

void Watched::load(const kernel::LoadOptions& options, bool account_memory) {
  unload();
  auto loaded = kernel::Programs::load(options);
  ASSERT_TRUE(loaded.ok()) << loaded.error().message();
  programs_ = loaded.value().get();
  auto source = engine::BpfSource::over(clock_, std::move(loaded).value(), account_memory);
  ASSERT_TRUE(source.ok()) << source.error().message();
  source_ = std::move(source).value();
}

void Watched::unload() {
  source_.reset();
  programs_ = nullptr;
}

void Watched::TearDown() {
  if (programs_ == nullptr) {
    return;
  }
  const auto nothing_left = [this] {
    auto processes = programs().processes();
    auto threads = programs().threads();
    return processes && threads && processes->empty() && threads->empty();
  };
  EXPECT_TRUE(wait_until(nothing_left))
      << programs().processes().value().size() << " process entries and "
      << programs().threads().value().size() << " thread entries of nothing that lives";
  if (!losses_expected_) {
    const pg_losses& losses = programs().losses();
    EXPECT_EQ(losses.edges, 0U);
    EXPECT_EQ(losses.processes, 0U);
    EXPECT_EQ(losses.threads, 0U);
    EXPECT_EQ(losses.memberships, 0U);
    EXPECT_EQ(losses.signals, 0U);
  }
}

engine::Target Watched::target(pg_scope scope, pid_t pid, pid_t tid) {
  engine::Target made;
  made.scope = scope;
  made.pid = pid;
  made.tid = tid;
  made.any_uid = true;
  return made;
}

engine::WatchId Watched::watch(const engine::Target& target) {
  auto made = source().watch(target);
  if (!made) {
    ADD_FAILURE() << made.error().message();
    return 0;
  }
  return made.value();
}

engine::WatchId Watched::watch_tree(pid_t pid) {
  return watch(target(PG_SCOPE_TREE, pid));
}

engine::WatchId Watched::watch_process(pid_t pid) {
  return watch(target(PG_SCOPE_PROCESS, pid));
}

engine::WatchId Watched::watch_thread(pid_t pid, pid_t tid) {
  return watch(target(PG_SCOPE_THREAD, pid, tid));
}

engine::WatchId Watched::watch_cgroup(const TestCgroup& cgroup) {
  engine::Target all = target(PG_SCOPE_CGROUP, 0);
  all.cgroup_path = cgroup.path();
  all.cgroup_id = cgroup.id();
  return watch(all);
}

engine::Levels Watched::levels(engine::WatchId watch) {
  auto read = source().levels(watch);
  if (!read) {
    ADD_FAILURE() << read.error().message();
    return {};
  }
  return read.value();
}

void Watched::limit_memory(engine::WatchId watch, std::uint64_t bytes, int signal) {
  engine::Thresholds thresholds;
  thresholds.memory[0] = {bytes, static_cast<std::uint32_t>(signal)};
  auto set = source().set_thresholds(watch, thresholds);
  EXPECT_TRUE(set.ok()) << set.error().message();
}

void Watched::limit_cpu(engine::WatchId watch, std::chrono::nanoseconds cpu) {
  engine::Thresholds thresholds;
  thresholds.cpu_ns = static_cast<std::uint64_t>(cpu.count());
  auto set = source().set_thresholds(watch, thresholds);
  EXPECT_TRUE(set.ok()) << set.error().message();
}

std::vector<pid_t> Watched::member_pids(engine::WatchId watch) {
  std::vector<pid_t> pids;
  auto members = source().members(watch);
  EXPECT_TRUE(members.ok());
  if (members) {
    for (const engine::Member& member : members.value()) {
      pids.push_back(member.pid);
    }
  }
  std::sort(pids.begin(), pids.end());
  return pids;
}

bool Watched::is_member(engine::WatchId watch, pid_t pid) {
  const auto pids = member_pids(watch);
  return std::binary_search(pids.begin(), pids.end(), pid);
}

pg_process Watched::process(pid_t pid) {
  auto found = programs().process(static_cast<std::uint32_t>(pid));
  EXPECT_TRUE(found.has_value()) << "no entry of process " << pid;
  return found.value_or(pg_process{});
}

std::optional<pg_thread> Watched::thread(pid_t tid) {
  auto threads = programs().threads();
  EXPECT_TRUE(threads.ok());
  if (threads) {
    for (const pg_thread& thread : threads.value()) {
      if (thread.tid == static_cast<std::uint32_t>(tid) && thread.exiting == 0) {
        return thread;
      }
    }
  }
  return std::nullopt;
}

bool Watched::edge(engine::WatchId watch, std::chrono::seconds deadline) {
  const auto until = std::chrono::steady_clock::now() + deadline;
  for (;;) {
    const auto ready = source().drain();
    if (std::find(ready.begin(), ready.end(), watch) != ready.end()) {
      return true;
    }
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
    pollfd ring{source().event_fd(), POLLIN, 0};
    if (left.count() <= 0 || ::poll(&ring, 1, static_cast<int>(left.count())) <= 0) {
      return false;
    }
  }
}

void Watched::expect_exact(engine::WatchId watch, pid_t pid, const char* when, pid_t tid) {
  ASSERT_TRUE(at_rest({pid})) << when;
  const Rss rss = rss_of(pid, tid);
  const pg_process entry = process(pid);
  EXPECT_EQ(entry.rss_bytes[PG_RSS_FILE], rss.file) << when;
  EXPECT_EQ(entry.rss_bytes[PG_RSS_ANON], rss.anon) << when;
  EXPECT_EQ(entry.rss_bytes[PG_RSS_SHMEM], rss.shmem) << when;
  const engine::Levels now = levels(watch);
  EXPECT_EQ(now.memory_bytes, rss.total) << when;
  EXPECT_EQ(now.memory_plain_bytes, rss.total) << when;
  EXPECT_GE(entry.rss_peak_bytes, rss.total) << when;
  EXPECT_GE(now.memory_peak_bytes, rss.total) << when;
}

}  // namespace procguard::test
