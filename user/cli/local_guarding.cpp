// SPDX-License-Identifier: Apache-2.0
#include "cli/local_guarding.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <utility>

#include "cli/calm.h"
#include "engine/process_facts.h"
#include "engine/source_factory.h"
#include "sys/caps.h"

namespace procguard::cli {
namespace {

// Members that cannot be killed (asleep in the kernel, another user's) are given up after this.
constexpr core::Ns kSweepPatience = 5 * core::kSecond;
constexpr core::Ns kSweepWait = 5 * core::kMillisecond;

// Whoever was sent a signal may be ending.
engine::FactsReader calm_facts() {
  return [facts = engine::process_facts()](pid_t pid, int signal) {
    const Calm calm;
    return facts(pid, signal);
  };
}

}  // namespace

void LocalGuarding::LookingSignaler::look() {
  if (guarding_.guard().step_result == PG_RESULT_INTENT) {
    host_.recorder.look_before_signal(guarding_.guard());
  }
}

Result<void> LocalGuarding::LookingSignaler::send(int pidfd, int signal) {
  look();
  if (signal != SIGCONT) {
    host_.departures.hold(pidfd);
  }
  return real_.send(pidfd, signal);
}

Result<void> LocalGuarding::LookingSignaler::send_thread(pid_t pid, pid_t tid, int signal) {
  look();
  return real_.send_thread(pid, tid, signal);
}

Result<void> LocalGuarding::LookingSignaler::kill_cgroup(const std::string& path,
                                                         std::uint64_t id) {
  look();
  return real_.kill_cgroup(path, id);
}

Result<std::unique_ptr<LocalGuarding>> LocalGuarding::create(const GuardingHost& host,
                                                             std::string& weaker_because) {
  const RunOptions& options = host.options;
  auto chosen = engine::make_source({.kind = options.source,
                                     .memory = options.limits_memory() || !options.report.empty(),
                                     .cgroups = options.guard.scope == PG_SCOPE_CGROUP},
                                    host.clock);
  if (!chosen) {
    return chosen.error();
  }
  weaker_because = std::move(chosen->weaker_because);
  return std::unique_ptr<LocalGuarding>(new LocalGuarding(host, std::move(chosen->source)));
}

LocalGuarding::LocalGuarding(const GuardingHost& host, std::unique_ptr<engine::Source> source)
    : host_(host),
      source_(std::move(source)),
      signaler_(*this, host_),
      executor_(*source_, signaler_, calm_facts(), ::getpid()),
      controller_(*source_, executor_, host_.clock, host_.recorder) {}

const pg_guard& LocalGuarding::guard() const {
  static const pg_guard none{};
  const pg_guard* guard = controller_.find(id_);
  return guard != nullptr ? *guard : none;
}

Result<void> LocalGuarding::arm(const Subject& subject) {
  auto capabilities = sys::read_capabilities();
  engine::Target target;
  target.scope = host_.options.guard.scope;
  target.pid = subject.pid;
  target.owner_uid = ::getuid();
  target.any_uid = capabilities && sys::may_signal_any(capabilities.value());
  if (subject.cgroup != nullptr) {
    target.cgroup_path = subject.cgroup->path();
    target.cgroup_id = subject.cgroup->id();
  }
  auto armed = controller_.arm(host_.options.guard, target);
  if (!armed) {
    return armed.error();
  }
  id_ = armed.value();
  pid_ = subject.pid;
  return {};
}

Result<void> LocalGuarding::watch_fds(sys::EventLoop& loop) {
  if (source_->event_fd() < 0) {
    return {};
  }
  return loop.add(source_->event_fd(), EPOLLIN, [this](std::uint32_t) { controller_.on_source(); });
}

Result<void> LocalGuarding::start() {
  return controller_.start(id_, source_->exec_time(guard().watch, pid_));
}

void LocalGuarding::command_ended() {
  // What the kernel did to it comes before the news of its end.
  controller_.on_source();
  controller_.target_gone(id_);
}

core::Ns LocalGuarding::next_due() {
  return std::min(controller_.next_due(), sweep_at_);
}

void LocalGuarding::on_time() {
  if (sweep_at_ <= host_.clock.now()) {
    sweep();
  }
  controller_.on_time();
}

void LocalGuarding::end_members() {
  const core::Ns now = host_.clock.now();
  const core::TakeStep kill{.resource = PG_TIMEOUT,
                            .index = 0,
                            .step = {.action = PG_ACTION_SIGNAL, .signal = SIGKILL, .wait_ns = 0},
                            .due_ns = now,
                            .last = true,
                            .kernel_pid = 0};
  executor_.take(*controller_.target(id_), guard().watch, kill, -1);
  sweep_at_ = now + kSweepWait;
  sweep_until_ = now + kSweepPatience;
}

void LocalGuarding::sweep() {
  const core::Ns now = host_.clock.now();
  auto alive = executor_.sweep(*controller_.target(id_), guard().watch);
  const bool over = !alive || alive.value() == 0 || now >= sweep_until_;
  sweep_at_ = over ? core::kNever : now + kSweepWait;
}

// Asked of the source: uids change, membership does not.
bool LocalGuarding::is_member(pid_t pid, uid_t /*uid*/) {
  const auto members = source_->members(guard().watch);
  return members && std::any_of(members->begin(), members->end(),
                                [pid](const auto& member) { return member.pid == pid; });
}

}  // namespace procguard::cli
