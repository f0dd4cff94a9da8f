// SPDX-License-Identifier: Apache-2.0
#include "engine/executor.h"

#include <algorithm>
#include <cerrno>
#include <csignal>

namespace procguard::engine {
namespace {

bool is_group(const Target& target) {
  return target.scope == PG_SCOPE_TREE || target.scope == PG_SCOPE_CGROUP;
}

// Which of Member::kernel_signalled a step is about; -1: the kernel takes no such step.
int kernel_slot(const core::TakeStep& step, int slot) {
  const bool memory = step.resource == PG_MEMORY || step.resource == PG_MEMORY_GROWTH;
  // A second SIGKILL does no harm, a missing one does.
  return step.index == 0 && step.step.signal != SIGKILL && memory ? slot : -1;
}

// A stopped target must run to act on a signal that it can catch.
bool wants_cont(int signal) {
  return signal != SIGKILL && signal != SIGSTOP && signal != SIGCONT;
}

// What the kernel delivers to a pid namespace's init from above even without a handler.
bool is_forced(int signal) {
  return signal == SIGKILL || signal == SIGSTOP;
}

}  // namespace

// One pass over the members of one target.
struct Executor::Pass {
  const Target& target;
  WatchId watch;
  const core::TakeStep& step;
  int signal;
  int slot;
  Outcome outcome{};
  bool all_pending = true;  // of those reached
  bool doomed = false;      // the kernel kills members beside us
  bool ignored = false;
  bool failed = false;

  void reached(pid_t pid, bool pending) {
    outcome.reached.push_back(pid);
    all_pending = all_pending && pending;
  }
  void refused(pid_t pid, int error) {
    outcome.refused.push_back(pid);
    note(error);
  }
  void note(int error) { outcome.error = outcome.error == 0 ? error : outcome.error; }

  void not_sent(pid_t pid, const Error& error) {
    if (error.code() == ESRCH) {
      return;  // it has ended
    }
    if (error.code() == EPERM || error.code() == EACCES) {
      refused(pid, error.code());
      return;
    }
    failed = true;
    note(error.code() == 0 ? EIO : error.code());
  }

  pg_result result() const {
    if (!outcome.reached.empty()) {
      return all_pending ? PG_RESULT_PENDING : PG_RESULT_SENT;
    }
    if (ignored) {
      return PG_RESULT_IGNORED;
    }
    if (!outcome.refused.empty()) {
      return PG_RESULT_REFUSED;
    }
    return failed ? PG_RESULT_FAILED : PG_RESULT_GONE;
  }
};

Outcome Executor::take(const Target& target, WatchId watch, const core::TakeStep& step, int slot) {
  const int signal = static_cast<int>(step.step.signal);
  Pass pass{.target = target,
            .watch = watch,
            .step = step,
            .signal = signal,
            .slot = kernel_slot(step, slot)};
  if (step.step.action != PG_ACTION_SIGNAL) {
    return {.result = PG_RESULT_FAILED, .error = EOPNOTSUPP, .reached = {}, .refused = {}};
  }
  if (step.kernel_pid != 0) {
    pass.reached(static_cast<pid_t>(step.kernel_pid), false);
  }
  if (step.index == 0 && (step.resource == PG_MEMORY || step.resource == PG_MEMORY_GROWTH)) {
    source_.take_over(watch);  // before the list is made: nobody gets it twice
  }
  auto members = source_.members(watch);
  if (!members) {
    pass.failed = true;
    pass.note(members.error().code() == 0 ? EIO : members.error().code());
  } else {
    pass.doomed = signal == SIGKILL && is_group(target) && doom(watch, members.value());
    if (pass.doomed && kill_whole_cgroup(target, members.value())) {
      for (const Member& member : members.value()) {
        pass.reached(member.pid, false);
      }
      pass.outcome.result = pass.result();
      return std::move(pass.outcome);
    }
    for (const Member& member : members.value()) {
      signal_member(pass, member);
    }
  }
  pass.outcome.result = pass.result();
  return std::move(pass.outcome);
}

// Has the kernel kill whoever runs or is born; true if it will. Not where somebody is inside who
// must never be a target: nothing could spare him.
bool Executor::doom(WatchId watch, const std::vector<Member>& members) {
  if (std::any_of(members.begin(), members.end(),
                  [this](const Member& member) { return is_protected(member.pid); })) {
    return false;
  }
  source_.doom(watch);
  return true;
}

// Kills a doomed cgroup at one blow; true if nothing is left to do. An empty cgroup may be gone,
// and its path another's by now.
bool Executor::kill_whole_cgroup(const Target& target, const std::vector<Member>& members) {
  // It spares nobody: not where each member has to be asked for.
  const bool all = target.any_uid || !authority_;
  return target.scope == PG_SCOPE_CGROUP && all && !members.empty() &&
         signaler_.kill_cgroup(target.cgroup_path, target.cgroup_id).ok();
}

bool Executor::may_signal(const Target& target, pid_t pid) const {
  return target.any_uid || !authority_ || authority_(target, pid);
}

void Executor::signal_member(Pass& pass, const Member& member) {
  const pid_t pid = member.pid;
  if (is_protected(pid)) {
    pass.refused(pid, EPERM);
    return;
  }
  if (pass.slot >= 0) {
    if (static_cast<std::uint32_t>(pid) == pass.step.kernel_pid) {
      return;  // counted already
    }
    if (member.kernel_signalled[pass.slot]) {
      pass.reached(pid, false);
      return;
    }
  }
  auto pidfd = source_.open_member(pass.watch, member);
  if (!pidfd && pass.doomed && pidfd.error().code() == ESRCH) {
    pass.reached(pid, false);  // it was listed alive, and the kernel was quicker
    return;
  }
  if (!pidfd) {
    pass.not_sent(pid, pidfd.error());
    return;
  }
  if ((!member.is_user_process && facts_(pid, pass.signal).kernel_thread) ||
      !may_signal(pass.target, pid)) {
    pass.refused(pid, EPERM);
    return;
  }
  const auto send = [&](int signal) {
    return pass.target.scope == PG_SCOPE_THREAD
               ? signaler_.send_thread(pid, pass.target.tid, signal)
               : signaler_.send(pidfd->get(), signal);
  };
  if (auto sent = send(pass.signal); !sent) {
    pass.not_sent(pid, sent.error());
    return;
  }
  if (wants_cont(pass.signal)) {
    static_cast<void>(send(SIGCONT));  // best effort: the step itself is sent
  }
  note_sent(pass, pid);
}

// What the signal will come to is looked up after it is on its way: /proc takes longer than all
// else that a step does.
void Executor::note_sent(Pass& pass, pid_t pid) {
  if (pass.signal == SIGKILL) {
    pass.reached(pid, false);
    return;
  }
  const ProcessFacts facts = facts_(pid, pass.signal);
  if (facts.namespace_init && !facts.handles_signal && !is_forced(pass.signal)) {
    pass.ignored = true;  // the kernel has dropped it
  } else {
    pass.reached(pid, facts.frozen_or_traced);
  }
}

Result<std::size_t> Executor::sweep(const Target& target, WatchId watch) {
  auto members = source_.members(watch);
  if (!members) {
    return members.error();
  }
  if (doom(watch, members.value()) && kill_whole_cgroup(target, members.value())) {
    return members->size();
  }
  std::size_t alive = 0;
  for (const Member& member : members.value()) {
    if (is_protected(member.pid)) {
      continue;
    }
    auto pidfd = source_.open_member(watch, member);
    if (pidfd && ((!member.is_user_process && facts_(member.pid, SIGKILL).kernel_thread) ||
                  !may_signal(target, member.pid))) {
      continue;
    }
    auto killed = pidfd ? signaler_.send(pidfd->get(), SIGKILL) : Result<void>(pidfd.error());
    const int error = killed ? 0 : killed.error().code();
    if (error != ESRCH && error != EPERM && error != EACCES) {
      ++alive;
    }
  }
  return alive;
}

}  // namespace procguard::engine
