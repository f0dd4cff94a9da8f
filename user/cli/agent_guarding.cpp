// SPDX-License-Identifier: Apache-2.0
#include "cli/agent_guarding.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include "sys/namespaces.h"
#include "sys/procfs.h"

namespace procguard::cli {
namespace {

constexpr int kMostAncestors = 64;
constexpr core::Ns kAskAgain = 100 * core::kMillisecond;
constexpr core::Ns kSweepWait = 5 * core::kMillisecond;
// A step that the agent has taken is told at once; longer is waited for no news.
constexpr core::Ns kNewsPatience = core::kSecond;

engine::Levels levels_of(const proto::ShowBody& shown) {
  engine::Levels levels;
  levels.memory_bytes = shown.row.memory_bytes;
  levels.memory_plain_bytes = shown.memory_plain_bytes;
  levels.memory_peak_bytes = shown.row.memory_peak_bytes;
  levels.memory_plain_peak_bytes = shown.memory_plain_peak_bytes;
  levels.cpu_ns = shown.row.cpu_ns;
  levels.processes = shown.row.processes;
  levels.empty = shown.row.processes == 0;
  levels.degraded = shown.row.degraded != 0;
  return levels;
}

bool descends_from(pid_t pid, pid_t ancestor) {
  const sys::ProcRoot proc;
  for (int i = 0; i < kMostAncestors && pid > 1 && pid != ancestor; ++i) {
    const auto stat = proc.stat(pid);
    pid = stat ? stat->ppid : 0;
  }
  return pid == ancestor;
}

engine::Usage usage_of(const Shown& shown) {
  engine::Usage usage;
  usage.total = shown.about.usage;
  // The agent's numbers are the host's. Elsewhere they would name other threads in /proc.
  if (!sys::in_host_pid_namespace()) {
    return usage;
  }
  for (const proto::ThreadBody& thread : shown.threads) {
    usage.threads.push_back({.pid = static_cast<pid_t>(thread.pid),
                             .tid = static_cast<pid_t>(thread.tid),
                             .comm = proto::get_text(thread.comm),
                             .state = static_cast<char>(thread.state),
                             .usage = thread.usage});
  }
  return usage;
}

}  // namespace

Result<std::unique_ptr<AgentGuarding>> AgentGuarding::connect(const std::string& socket,
                                                              const GuardingHost& host) {
  auto ask = GuardLink::connect(socket);
  if (!ask) {
    return ask.error();
  }
  auto events = GuardLink::connect(socket);
  if (!events) {
    return events.error();
  }
  auto status = ask->status();
  if (!status) {
    return status.error().in(socket);
  }
  std::unique_ptr<AgentGuarding> guarding(
      new AgentGuarding(socket, host, std::move(ask).value(), std::move(events).value()));
  guarding->agent_started_ns_ = status->started_ns;
  return guarding;
}

AgentGuarding::AgentGuarding(std::string socket, const GuardingHost& host, GuardLink ask,
                             GuardLink events)
    : socket_(std::move(socket)), host_(host), ask_(std::move(ask)), events_(std::move(events)) {}

// The command may have another working directory than we.
std::string AgentGuarding::socket() const {
  std::error_code unknown;
  const auto path = std::filesystem::absolute(socket_, unknown);
  return unknown ? socket_ : path.string();
}

Result<void> AgentGuarding::arm(const Subject& subject) {
  const RunOptions& options = host_.options;
  const int target = subject.cgroup != nullptr ? subject.cgroup->fd() : subject.pidfd;
  auto armed = ask_->attach(attach_body(options.guard, options.labels), target);
  if (!armed) {
    return armed.error();
  }
  subject_ = subject;
  pid_there_ = armed->pid;
  state_.id = armed->id;
  state_.target_start_ns = armed->target_start_ns;
  proto::put_text(state_.name, options.guard.name);
  auto events = events_->follow(state_.id, 0);
  if (!events) {
    static_cast<void>(ask_->release(state_.id));  // unheard it is of no use to us
    return events.error();
  }
  if (!refresh()) {
    return Error("the agent has gone", kAgentUnavailable);
  }
  tell(events.value());
  return {};
}

Result<void> AgentGuarding::watch_fds(sys::EventLoop& loop) {
  loop_ = &loop;
  if (!events_) {
    return {};
  }
  return loop.add(events_->fd(), EPOLLIN, [this](std::uint32_t) { on_events(); });
}

Result<void> AgentGuarding::start() {
  executed_ns_ = host_.clock.now();
  if (!connected()) {
    say_gone();
    return {};  // the clocks are started when an agent is back
  }
  auto guard = ask_->start(state_.id, 0);
  if (took(guard)) {
    started_ = true;
    state_ = guard.value();
    return {};
  }
  // The guard is over if the command has ended already: its status tells the rest.
  if (!connected() || guard.error().code() == ESRCH) {
    return {};
  }
  return guard.error();
}

void AgentGuarding::progress() {
  if (connected()) {
    if (auto guard = ask_->progress(state_.id); took(guard)) {
      state_ = guard.value();
    }
  }
  progress_waits_ = !connected();  // for the next agent
}

void AgentGuarding::command_ended() {
  ended_ = true;
  ended_ns_ = host_.clock.now();
  if (state_.scope == PG_SCOPE_CGROUP) {
    ask_again_at_ = host_.clock.now() + kAskAgain;
  }
  // What was done to it comes before the news of its end: first what has been told already, also by
  // an agent that has gone, then what the agent knows beyond that.
  read_events(0);
  if (away()) {
    look_for_agent();
  }
  hear_all(kNewsPatience);
}

core::Ns AgentGuarding::next_due() {
  return std::min({retry_at_, sweep_at_, ask_again_at_});
}

void AgentGuarding::on_time() {
  const core::Ns now = host_.clock.now();
  if (retry_at_ <= now) {
    look_for_agent();
  }
  if (sweep_at_ <= now) {
    const bool over = !refresh() || levels_.empty || now >= sweep_until_;
    sweep_at_ = over ? core::kNever : now + kSweepWait;
  }
  if (ask_again_at_ <= now) {
    ask_again_at_ = now + kAskAgain;  // the session asks, once it is awake
  }
}

// Reads all there is to know. Of a guard that has ended an agent may know less than it told before.
bool AgentGuarding::refresh() {
  if (!connected()) {
    return false;
  }
  auto shown = ask_->show(state_.id);
  if (!took(shown)) {
    return false;
  }
  state_ = shown->about.row.guard;
  const engine::Levels before = levels_;
  levels_ = levels_of(shown->about);
  with_command_ = !ended_;
  levels_.memory_peak_bytes = std::max(levels_.memory_peak_bytes, before.memory_peak_bytes);
  levels_.memory_plain_peak_bytes =
      std::max(levels_.memory_plain_peak_bytes, before.memory_plain_peak_bytes);
  levels_.cpu_ns = std::max(levels_.cpu_ns, before.cpu_ns);
  if (shown->about.usage.cpu_ns >= usage_.total.cpu_ns) {
    usage_ = usage_of(shown.value());
  }
  return true;
}

Result<engine::Levels> AgentGuarding::levels() {
  if (refresh()) {
    return levels_;
  }
  engine::Levels known = last_heard();
  known.processes = away() ? known.processes : 0;
  return known;
}

Result<engine::Usage> AgentGuarding::usage() {
  refresh();
  return usage_;
}

// Uids change, membership does not.
bool AgentGuarding::is_member(pid_t pid, uid_t uid) {
  if (pid <= 0 || pid == subject_.pid) {
    return pid > 0;
  }
  switch (host_.options.guard.scope) {
    case PG_SCOPE_CGROUP: {
      const auto inside = subject_.cgroup->contains(pid);
      return inside && inside.value();
    }
    case PG_SCOPE_TREE:
      return descends_from(pid, subject_.pid) || agent_knows(pid, uid);
    default:
      return false;
  }
}

// Its parent may have ended: who started it then only the agent knows. Where that does not tell
// (it is away, its numbers are not ours, its list is cut), whoever runs as us may speak for the
// target: to the agent itself he might as well.
bool AgentGuarding::agent_knows(pid_t pid, uid_t uid) {
  std::set<std::uint32_t> listed;
  if (connected() && sys::in_host_pid_namespace()) {
    const auto shown = ask_->show(state_.id);
    if (took(shown)) {
      for (const proto::ThreadBody& thread : shown->threads) {
        listed.insert(thread.pid);
      }
      if (listed.contains(static_cast<std::uint32_t>(pid)) ||
          listed.size() >= shown->about.row.processes) {
        return listed.contains(static_cast<std::uint32_t>(pid));
      }
    }
  }
  return uid == ::getuid();
}

}  // namespace procguard::cli
