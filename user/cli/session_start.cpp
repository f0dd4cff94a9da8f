// SPDX-License-Identifier: Apache-2.0
// The first half of a session: everything up to the moment the command is let go.
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <utility>

#include "cli/calm.h"
#include "cli/session.h"
#include "engine/process_facts.h"
#include "sys/caps.h"
#include "sys/sched_fifo.h"

namespace procguard::cli {
namespace {

constexpr const char* kGuardVariable = "PROCGUARD_GUARD=";

std::uint64_t ram_bytes() {
  struct sysinfo info {};
  return ::sysinfo(&info) == 0 ? static_cast<std::uint64_t>(info.totalram) * info.mem_unit : 0;
}

// Whoever was sent a signal may be ending.
engine::FactsReader calm_facts() {
  return [facts = engine::process_facts()](pid_t pid, int signal) {
    const Calm calm;
    return facts(pid, signal);
  };
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
  return open_source();
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

Result<void> Session::open_source() {
  auto chosen = engine::make_source({.kind = options_.source,
                                     .memory = options_.limits_memory() || !options_.report.empty(),
                                     .cgroups = options_.guard.scope == PG_SCOPE_CGROUP},
                                    clock_);
  if (!chosen) {
    return chosen.error();
  }
  source_ = std::move(chosen->source);
  record_.source = source_->name();
  record_.weaker_because = std::move(chosen->weaker_because);
  executor_.emplace(*source_, signaler_, calm_facts(), ::getpid());
  controller_.emplace(*source_, *executor_, clock_, recorder_);
  recorder_.answers({.levels = [this] { return controller_->levels(guard_); },
                     .usage = [this] { return controller_->usage(guard_); }});
  return {};
}

Result<void> Session::start() {
  // Where the kernel does not tell who belongs to the tree, its orphans must come to us.
  if (record_.source != "bpf" && options_.guard.scope == PG_SCOPE_TREE &&
      ::prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) {
    return Error::system("prctl(PR_SET_CHILD_SUBREAPER)", errno);
  }
  auto child = Child::spawn({.command = options_.command,
                             .environment = environment(),
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
  const bool must_be_quick = options_.limits_memory() || options_.guard.cpu_ns != 0;
  const bool told = record_.source == "bpf";
  record_.scheduling =
      (must_be_quick && told ? sys::request_sched_fifo() : sys::current_scheduling()).describe();
  warn();
  return child_->let_go();
}

Result<void> Session::arm() {
  auto capabilities = sys::read_capabilities();
  engine::Target target;
  target.scope = options_.guard.scope;
  target.pid = child_->pid();
  target.owner_uid = ::getuid();
  target.any_uid = capabilities && sys::may_signal_any(capabilities.value());
  if (cgroup_) {
    target.cgroup_path = cgroup_->path();
    target.cgroup_id = cgroup_->id();
  }
  auto armed = controller_->arm(options_.guard, target);
  if (!armed) {
    return armed.error().in("arming the guard");
  }
  guard_ = armed.value();
  record_.guard_id = guard_;
  record_.membership = source_->membership();
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
  if (source_->event_fd() >= 0) {
    added = loop_->add(source_->event_fd(), EPOLLIN,
                       [this](std::uint32_t) { controller_->on_source(); });
    if (!added) {
      return added;
    }
  }
  loop_->on_timer([this] { on_time(); });
  return {};
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

std::vector<std::string> Session::environment() const {
  std::vector<std::string> result;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (!std::string_view(*variable).starts_with(kGuardVariable)) {
      result.emplace_back(*variable);
    }
  }
  result.push_back(kGuardVariable + record_.name);
  return result;
}

}  // namespace procguard::cli
