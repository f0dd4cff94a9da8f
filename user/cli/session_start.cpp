// SPDX-License-Identifier: Apache-2.0
// The first half of a session: everything up to the moment the command is let go.
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <utility>

#include "cli/session.h"
#include "sys/sched_fifo.h"

namespace procguard::cli {
namespace {

constexpr const char* kGuardVariable = "PROCGUARD_GUARD";
constexpr const char* kSocketVariable = "PROCGUARD_SOCKET";
constexpr const char* kNotifyVariable = "NOTIFY_SOCKET";
constexpr const char* kWatchdogVariable = "WATCHDOG_USEC";
constexpr const char* kWatchdogPidVariable = "WATCHDOG_PID";

std::uint64_t ram_bytes() {
  struct sysinfo info {};
  return ::sysinfo(&info) == 0 ? static_cast<std::uint64_t>(info.totalram) * info.mem_unit : 0;
}

}  // namespace

Result<void> Session::prepare() {
  auto signals = SignalPort::open();
  if (!signals) {
    return signals.error();
  }
  signals_ = std::move(signals).value();
  if (!terminal_.leads()) {
    auto witness = GroupWitness::start();
    if (!witness) {
      return witness.error();
    }
    witness_.emplace(std::move(witness).value());
  }
  auto loop = sys::EventLoop::create();
  if (!loop) {
    return loop.error();
  }
  loop_ = std::move(loop).value();
  if (auto opened = open_cgroup(); !opened) {
    return opened;
  }
  open_notify();
  return choose(choose_guarding(host()));
}

Result<void> Session::open_cgroup() {
  if (options_.cgroup.empty()) {
    return {};
  }
  auto mounts = sys::read_cgroup_mounts();
  if (!mounts) {
    return mounts.error();
  }
  auto cgroup = sys::Cgroup::open(mounts.value(), options_.cgroup);
  if (!cgroup) {
    return cgroup.error().in("--cgroup");
  }
  auto inside = cgroup->contains(::getpid());
  if (!inside) {
    return inside.error().in("--cgroup");
  }
  if (inside.value()) {
    return Error("--cgroup " + options_.cgroup +
                 ": it holds procguard itself, which cannot be its own target");
  }
  cgroup_ = std::move(cgroup).value();
  return {};
}

// Progress can only be reported to a timeout. A command that cannot report is no reason to fail.
void Session::open_notify() {
  if (options_.guard.timeout_ns == 0) {
    return;
  }
  const char* ours = std::getenv(kNotifyVariable);
  auto notify = NotifyPort::open(ours != nullptr ? ours : "");
  if (notify) {
    notify_.emplace(std::move(notify).value());
  } else if (options_.verbose) {
    messages_.note(record_.name + ": no progress by sd_notify: " + notify.error().message());
  }
}

Result<void> Session::choose(Result<ChosenGuarding> chosen) {
  if (!chosen) {
    return chosen.error();
  }
  guarding_ = std::move(chosen->guarding);
  record_.source = guarding_->source();
  record_.weaker_because = std::move(chosen->weaker_because);
  recorder_.answers({.levels = [this] { return guarding_->levels(); },
                     .usage = [this] { return guarding_->usage(); }});
  if (!chosen->no_agent_because.empty() && options_.verbose) {
    messages_.note(record_.name + ": without the agent: " + chosen->no_agent_because);
  }
  // Where the kernel does not tell who belongs to the tree, its orphans must come to us.
  if (guarding_->needs_subreaper() && options_.guard.scope == PG_SCOPE_TREE &&
      ::prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) {
    return Error::system("prctl(PR_SET_CHILD_SUBREAPER)", errno);
  }
  return {};
}

Result<void> Session::start() {
  auto child = Child::spawn({.command = options_.command,
                             .environment = environment(),
                             .named_later = kGuardVariable,
                             .mask = signals_->original_mask(),
                             .on_child_exit = signals_->original_on_child_exit(),
                             .cgroup = cgroup_ ? cgroup_->fd() : -1,
                             .terminal = terminal_.leads() ? STDIN_FILENO : -1});
  if (!child) {
    return child.error();
  }
  child_.emplace(std::move(child).value());
  record_.pid = child_->pid();
  if (terminal_.leads()) {
    terminal_.given();
  }
  if (auto armed = arm(); !armed) {
    return armed;
  }
  if (auto watched = watch_fds(); !watched) {
    return watched;
  }
  // After the child was made: it must not inherit this, whatever reset-on-fork does.
  const bool crossings = options_.limits_memory() || options_.guard.cpu_ns != 0;
  record_.scheduling = (crossings && guarding_->must_be_quick() ? sys::request_sched_fifo()
                                                                : sys::current_scheduling())
                           .describe();
  warn();
  // Where nobody would hear of progress the variable is empty.
  return child_->let_go(notify_ || !guarding_->socket().empty() ? guarding_->reference() : "");
}

Result<void> Session::arm() {
  const Subject subject{
      .pid = child_->pid(), .pidfd = child_->pidfd(), .cgroup = cgroup_ ? &*cgroup_ : nullptr};
  auto armed = guarding_->arm(subject);
  if (!armed && may_do_without_agent(options_, *guarding_, armed.error())) {
    messages_.note(record_.name + ": without the agent: " + armed.error().message());
    if (auto chosen = choose(choose_local_guarding(host())); !chosen) {
      return chosen;
    }
    armed = guarding_->arm(subject);
  }
  if (!armed) {
    return armed.error().in("arming the guard");
  }
  const pg_guard& guard = guarding_->guard();
  record_.guard_id = guard.id;
  record_.name = guard_name(guard);
  record_.membership = guarding_->membership();
  return {};
}

Result<void> Session::watch_fds() {
  auto added = loop_->add(signals_->fd(), EPOLLIN, [this](std::uint32_t) { on_signals(); });
  if (!added) {
    return added;
  }
  added = loop_->add(child_->exec_fd(), EPOLLIN, [this](std::uint32_t) { on_exec(); });
  if (!added) {
    return added;
  }
  if (notify_) {
    added = loop_->add(notify_->fd(), EPOLLIN, [this](std::uint32_t) { on_notify(); });
    if (!added) {
      return added;
    }
  }
  loop_->on_timer([this] { on_time(); });
  return guarding_->watch_fds(*loop_);
}

void Session::warn() {
  const core::GuardSpec& guard = options_.guard;
  const std::uint64_t ram = ram_bytes();
  for (const std::uint64_t limit : {guard.memory_bytes, guard.memory_growth_bytes}) {
    if (ram != 0 && limit > ram) {
      messages_.note(above_ram_text(record_.name, limit, ram));
    }
  }
  const bool matters = options_.limits_memory() || guard.cpu_ns != 0;
  if (!record_.weaker_because.empty() && (matters || options_.verbose)) {
    messages_.note(record_.name +
                   ": source procfs: usage is read from /proc at intervals, not from the kernel as "
                   "it changes: " +
                   record_.weaker_because);
  }
  if (options_.verbose) {
    messages_.note(record_.name + ": pid " + std::to_string(child_->pid()) + ", source " +
                   record_.source + ", membership " + record_.membership + ", " +
                   record_.scheduling);
  }
}

// Ours, with what the command is to find instead; the guard's number comes when it is let go.
std::vector<std::string> Session::environment() const {
  std::vector<std::string_view> replaced = {kGuardVariable};
  if (notify_) {
    replaced.insert(replaced.end(), {kNotifyVariable, kWatchdogVariable, kWatchdogPidVariable});
  }
  const std::string socket = guarding_->socket();
  if (!socket.empty()) {
    replaced.emplace_back(kSocketVariable);
  }
  std::vector<std::string> result;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string_view text(*variable);
    if (std::find(replaced.begin(), replaced.end(), text.substr(0, text.find('='))) ==
        replaced.end()) {
      result.emplace_back(text);
    }
  }
  if (!socket.empty()) {
    result.push_back(std::string(kSocketVariable) + "=" + socket);
  }
  if (notify_) {
    const core::Ns us = std::max<core::Ns>(options_.guard.timeout_ns / core::kMicrosecond, 1);
    result.push_back(std::string(kNotifyVariable) + "=" + notify_->address());
    result.push_back(std::string(kWatchdogVariable) + "=" + std::to_string(us));
  }
  return result;
}

}  // namespace procguard::cli
