// SPDX-License-Identifier: Apache-2.0
#include "client/monitor.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "client/native_thread.h"
#include "client/shown.h"
#include "client/thread.h"
#include "sys/ready_write.h"
#include "sys/sched_fifo.h"

namespace procguard::client {
namespace {

// After the last memory guard was left the monitor has to look within this time.
constexpr core::Ns kLookAfterLeave = 10 * core::kSecond;

}  // namespace

Monitor& Monitor::instance() {
  static Monitor* const monitor = new Monitor;
  return *monitor;
}

Monitor::Monitor() {
  pthread_atfork(&Monitor::before_fork, &Monitor::after_fork_in_parent,
                 &Monitor::after_fork_in_child);
}

Result<void> Monitor::ensure_started() {
  if (started_.load(std::memory_order_acquire)) {
    return {};
  }
  const std::lock_guard lock(start_);
  if (started_.load(std::memory_order_relaxed)) {
    return {};
  }
  auto loop = sys::EventLoop::create();
  if (!loop) {
    return loop.error();
  }
  sys::Fd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake) {
    return Error::system("eventfd", errno);
  }
  loop_.emplace(std::move(loop).value());
  wake_ = std::move(wake);
  followed_ = {-1, -1};
  loop_->on_timer([] {});
  auto added = loop_->add(wake_.get(), EPOLLIN, [this](std::uint32_t) {
    std::uint64_t count = 0;
    static_cast<void>(::read(wake_.get(), &count, sizeof(count)));
  });
  if (!added) {
    return added;
  }
  wake_fd_ = wake_.get();
  auto begun = start_native_thread("procguard", &Monitor::run, this);
  started_.store(begun.ok(), std::memory_order_release);
  return begun;
}

int Monitor::enter(Guard& guard, void* user, procguard_entry& handle) {
  handle = {};
  Thread* thread = this_thread();
  if (thread == nullptr || !ensure_started()) {
    return EAGAIN;
  }
  const bool memory = guard.resource != PG_TIMEOUT;
  std::uint64_t rss = 0;
  if (const int error = memory ? enter_memory(guard, rss) : 0; error != 0) {
    return error;
  }
  thread->trim();
  Entry* entry = thread->free_entry();
  if (entry == nullptr) {
    if (memory) {
      left_memory();
    }
    return EAGAIN;
  }
  thread->stack.reserve(thread->stack.size() + 1);  // once it is entered nothing may fail
  handle = entry->enter(guard, *thread, user, clock_.now(), rss);
  thread->stack.push_back(handle);
  tell(core::saturating_add(entry->entered_ns, entry->timeout_ns.load(std::memory_order_relaxed)),
       entry->memory_bytes.load(std::memory_order_relaxed));
  return 0;
}

int Monitor::enter_memory(const Guard& guard, std::uint64_t& rss) {
  if (memory_.use() != 0) {
    {
      const std::lock_guard lock(start_);
      memory_.want();
    }
    wake();
    if (const int error = memory_.wait_until_started(); error != 0) {
      memory_.end_use();
      return error;
    }
  }
  const auto now = memory_.rss_bytes();
  if (!now && guard.resource == PG_MEMORY_GROWTH) {  // from where it grows is not known
    left_memory();
    return now.error().code();
  }
  rss = now ? now.value() : 0;
  return 0;
}

int Monitor::leave(procguard_entry handle, procguard_trip* withdrawn) {
  Entry* entry = slot_of(handle);
  if (entry == nullptr || !entry->begin_leave(handle.generation)) {
    return -1;
  }
  Thread* mine = this_thread_if_known();
  if (entry->thread == mine && mine != nullptr) {
    mine->forget(handle);
  }
  Guard* guard = entry->guard;
  const bool pending = entry->withdraw();
  if (pending && withdrawn != nullptr) {
    *withdrawn = entry->trip;
  }
  const bool signalled = entry->signalled;
  entry->shown.take_away();
  entry->guard = nullptr;
  entry->end_leave(handle.generation);
  if (guard->resource != PG_TIMEOUT) {
    left_memory();
  }
  give_up(guard);
  return (pending ? PROCGUARD_WITHDRAWN : 0) | (signalled ? PROCGUARD_SIGNALLED : 0);
}

int Monitor::suspend(procguard_entry handle) {
  Entry* entry = slot_of(handle);
  if (entry == nullptr || !entry->await(handle.generation)) {
    return -1;
  }
  const bool changed = !std::exchange(entry->suspended, true);
  if (Thread* mine = this_thread_if_known(); entry->thread == mine && mine != nullptr) {
    mine->forget(handle);
  }
  entry->let_go();
  return changed ? 0 : -1;
}

int Monitor::resume(procguard_entry handle) {
  Entry* entry = slot_of(handle);
  Thread* thread = this_thread();
  if (entry == nullptr || thread == nullptr || !entry->await(handle.generation)) {
    return -1;
  }
  const bool changed = std::exchange(entry->suspended, false);
  if (changed) {
    const bool pending = entry->clear_pending();  // counted by the thread it is pending for
    entry->thread = thread;
    if (pending) {
      entry->set_pending();
    }
    entry->show();
    thread->trim();
    thread->stack.push_back(handle);
  }
  const bool signal_waits = entry->signal_waits;
  if (signal_waits) {
    entry->due_ns = 0;
  }
  entry->let_go();
  if (signal_waits) {
    wake();
  }
  return changed ? 0 : -1;
}

void Monitor::restart(Entry& entry) {
  const core::Ns now = clock_.now();
  if (entry.restart(now)) {
    tell(core::saturating_add(now, entry.timeout_ns.load(std::memory_order_relaxed)), core::kNever);
  }
}

void Monitor::left_memory() {
  memory_.end_use();
  if (!memory_.in_use() &&
      sleeps_until_.load() > core::saturating_add(clock_.now(), kLookAfterLeave)) {
    wake();
  }
}

const char* Monitor::source_name() const {
  const char* name = memory_.source_name();
  return name != nullptr ? name : likely_source_name();
}

void Monitor::tell(core::Ns due_ns, std::uint64_t memory_bytes) {
  if (due_ns < sleeps_until_.load(std::memory_order_seq_cst) ||
      (memory_bytes != core::kNever && memory_bytes < memory_.armed_bytes())) {
    wake();
  }
}

void Monitor::wake() {
  if (!woken_.exchange(true)) {
    const std::uint64_t one = 1;
    static_cast<void>(::write(wake_fd_.load(), &one, sizeof(one)));
  }
}

void* Monitor::run(void* self) {
  auto& monitor = *static_cast<Monitor*>(self);
  static_cast<void>(sys::request_sched_fifo());
  for (;;) {
    core::Ns next = core::kNever;
    std::vector<std::string> messages;
    {
      const std::lock_guard lock(monitor.turn_);
      next = monitor.turn();
      messages = monitor.memory_.take_messages();
    }
    for (const std::string& line : messages) {
      static_cast<void>(sys::write_if_ready(STDERR_FILENO, line));
    }
    static_cast<void>(monitor.loop_->set_timer(next));
    static_cast<void>(monitor.loop_->run_once());
  }
}

// One look at everything; when the next one is wanted.
core::Ns Monitor::turn() {
  woken_.store(false);
  sleeps_until_.store(core::kNever, std::memory_order_seq_cst);
  memory_.disarm_look();
  core::Ns next = memory_.serve(clock_.now());
  follow_sources();
  next = std::min(next, memory_.free_retired(clock_.now()));
  for (bool again = true; again;) {
    const MemoryView view = memory_.view();
    const Round round = patrol(first_thread(), stepper_, view, clock_.now());
    again = memory_.arm(round, view);
    next = std::min(next, round.next_ns);
  }
  next = std::min(next, memory_.next_check(clock_.now()));
  sleeps_until_.store(next, std::memory_order_seq_cst);
  return next;
}

// All of them anew at any change: they are few.
void Monitor::follow_sources() {
  const std::array<int, 2> wanted = memory_.event_fds();
  if (wanted == followed_) {
    return;
  }
  for (const int fd : followed_) {
    loop_->remove(fd);
  }
  for (const int fd : wanted) {
    if (fd >= 0) {
      static_cast<void>(loop_->add(fd, EPOLLIN, [](std::uint32_t) {}));
    }
  }
  followed_ = wanted;
}

void Monitor::before_fork() {
  Monitor& monitor = instance();
  monitor.start_.lock();
  monitor.turn_.lock();
  trips_mutex().lock();
  monitor.deliveries_.before_fork();
}

void Monitor::after_fork_in_parent() {
  Monitor& monitor = instance();
  monitor.deliveries_.after_fork_in_parent();
  trips_mutex().unlock();
  monitor.turn_.unlock();
  monitor.start_.unlock();
}

// The child has one thread and none of its parent's guards. What was the monitor's is closed; the
// first entry starts another.
void Monitor::after_fork_in_child() {
  Monitor& monitor = instance();
  void_all_entries();
  monitor.deliveries_.after_fork_in_child();
  monitor.memory_.abandon();
  SessionPage::instance().abandon();
  monitor.loop_.reset();
  monitor.wake_.reset();
  monitor.wake_fd_ = -1;
  monitor.followed_ = {-1, -1};
  monitor.sleeps_until_ = core::kNever;
  monitor.woken_ = false;
  monitor.started_ = false;
  trips_mutex().unlock();
  monitor.turn_.unlock();
  monitor.start_.unlock();
}

}  // namespace procguard::client
