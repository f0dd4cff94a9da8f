// SPDX-License-Identifier: Apache-2.0
#include "cli/thread_look.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <numeric>
#include <utility>

namespace procguard::cli {
namespace {

std::uint64_t grown(const pg_usage& usage) {
  return std::accumulate(std::begin(usage.grown_bytes), std::end(usage.grown_bytes),
                         std::uint64_t{0});
}

void look_into_proc(ThreadLook& look, const sys::ProcRoot& proc) {
  const pid_t pid = look.thread.pid;
  const pid_t tid = look.thread.tid;
  if (auto stat = proc.thread_stat(pid, tid)) {
    look.thread.state = stat->state;
    look.thread.comm = stat->comm;
  }
  if (const auto syscall = proc.syscall(pid, tid)) {
    look.syscall = syscall->running ? "running" : "";
    if (syscall->number >= 0) {
      look.syscall = syscall_name(syscall->number);
    }
  }
  look.wchan = proc.wchan(pid, tid);
}

}  // namespace

Look look_at(engine::Usage usage, core::Ns now, const sys::ProcRoot& proc) {
  Look look;
  look.total = usage.total;
  look.at_ns = now;
  std::vector<engine::ThreadUsage>& threads = usage.threads;
  if (threads.size() > kMaxThreadsLooked) {
    const auto weight = [](const engine::ThreadUsage& thread) {
      return std::pair(grown(thread.usage), thread.usage.cpu_ns);
    };
    std::partial_sort(threads.begin(), threads.begin() + kMaxThreadsLooked, threads.end(),
                      [&](const auto& a, const auto& b) { return weight(a) > weight(b); });
    look.omitted = threads.size() - kMaxThreadsLooked;
    threads.resize(kMaxThreadsLooked);
  }
  for (engine::ThreadUsage& thread : threads) {
    ThreadLook one;
    one.thread = std::move(thread);
    look_into_proc(one, proc);
    one.activity = diagnose(one.thread.state, one.syscall, one.thread.usage);
    look.threads.push_back(std::move(one));
  }
  return look;
}

}  // namespace procguard::cli
