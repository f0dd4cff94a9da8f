// SPDX-License-Identifier: Apache-2.0
#include "cli/thread_look.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <iterator>
#include <numeric>
#include <utility>

#include "sys/files.h"
#include "sys/procfs_parse.h"

namespace procguard::cli {
namespace {

std::uint64_t grown(const pg_usage& usage) {
  return std::accumulate(std::begin(usage.grown_bytes), std::end(usage.grown_bytes),
                         std::uint64_t{0});
}

// "running", "-1 0x7ffd 0x7f12" (blocked outside a system call) or "230 0x0 0x1 ...".
std::string syscall_of(const std::string& text) {
  if (text.starts_with("running")) {
    return "running";
  }
  long number = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end != text.data() && number >= 0 ? syscall_name(number) : "";
}

std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

void look_into_proc(ThreadLook& look, const std::string& proc) {
  const std::string task =
      proc + "/" + std::to_string(look.thread.pid) + "/task/" + std::to_string(look.thread.tid);
  if (auto text = sys::read_file(task + "/stat")) {
    if (const auto stat = sys::parse_stat(text.value())) {
      look.thread.state = stat->state;
      look.thread.comm = stat->comm;
    }
  }
  if (auto text = sys::read_file(task + "/syscall")) {
    look.syscall = syscall_of(text.value());
  }
  if (auto text = sys::read_file(task + "/wchan"); text && first_line(text.value()) != "0") {
    look.wchan = first_line(text.value());
  }
}

}  // namespace

Look look_at(engine::Usage usage, core::Ns now, const std::string& proc) {
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
