// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/guarding.h"

#include <sched.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "engine/process_facts.h"
#include "sys/sched_fifo.h"

namespace procguard::bench {
namespace {

constexpr core::Ns kPatience = 5 * core::kSecond;

class UserSpaceSteps final : public engine::Source {
 public:
  explicit UserSpaceSteps(engine::Source& source) : source_(source) {}

  Result<void> set_thresholds(engine::WatchId watch, const engine::Thresholds& wanted) override {
    engine::Thresholds thresholds = wanted;
    for (auto& memory : thresholds.memory) {
      memory.kernel_signal = 0;
    }
    return source_.set_thresholds(watch, thresholds);
  }

  // The rest as it is.
  const char* name() const override { return source_.name(); }
  const char* membership() const override { return source_.membership(); }
  Result<engine::WatchId> watch(const engine::Target& t) override { return source_.watch(t); }
  Result<engine::Levels> levels(engine::WatchId w) override { return source_.levels(w); }
  void acknowledge(engine::WatchId w, int slot, const engine::ThresholdState& seen) override {
    source_.acknowledge(w, slot, seen);
  }
  Result<void> read_memory(engine::WatchId w) override { return source_.read_memory(w); }
  void set_failsafe(engine::WatchId w, const engine::Failsafe& wanted) override {
    source_.set_failsafe(w, wanted);
  }
  void acknowledge_failsafe(engine::WatchId w) override { source_.acknowledge_failsafe(w); }
  void take_over(engine::WatchId w) override { source_.take_over(w); }
  Result<std::vector<engine::Member>> members(engine::WatchId w) override {
    return source_.members(w);
  }
  Result<sys::Fd> open_member(engine::WatchId w, const engine::Member& member) override {
    return source_.open_member(w, member);
  }
  void doom(engine::WatchId w) override { source_.doom(w); }
  Result<engine::Usage> usage(engine::WatchId w) override { return source_.usage(w); }
  core::Ns exec_time(engine::WatchId w, pid_t pid) override { return source_.exec_time(w, pid); }
  void release(engine::WatchId w) override { source_.release(w); }
  int event_fd() const override { return source_.event_fd(); }
  std::vector<engine::WatchId> drain() override { return source_.drain(); }
  core::Ns next_check(core::Ns now) override { return source_.next_check(now); }
  void trace(const pg_event& event) override { source_.trace(event); }
  void publish(const pg_guard& guard) override { source_.publish(guard); }

 private:
  engine::Source& source_;
};

}  // namespace

Priority::Priority() {
  sys::request_sched_fifo();
}

Priority::~Priority() {
  const sched_param none{};
  ::sched_setscheduler(0, SCHED_OTHER, &none);
}

std::unique_ptr<engine::Source> without_kernel_step(engine::Source& source) {
  return std::make_unique<UserSpaceSteps>(source);
}

Result<std::unique_ptr<Guarding>> Guarding::create(bool kernel_step) {
  static const sys::MonotonicClock clock;
  auto source = engine::BpfSource::create(clock, {.load = {}, .account_memory = true});
  if (!source) {
    return source.error();
  }
  auto loop = sys::EventLoop::create();
  if (!loop) {
    return loop.error();
  }
  std::unique_ptr<Guarding> made(
      new Guarding(std::move(source).value(), std::move(loop).value(), kernel_step));
  auto* self = made.get();
  if (auto added = self->loop_.add(self->source_->event_fd(), EPOLLIN,
                                   [self](std::uint32_t) { self->controller_.on_source(); });
      !added) {
    return added.error();
  }
  self->loop_.on_timer([self] { self->controller_.on_time(); });
  return made;
}

Guarding::Guarding(std::unique_ptr<engine::BpfSource> source, sys::EventLoop loop, bool kernel_step)
    : source_(std::move(source)),
      limited_(kernel_step ? nullptr : without_kernel_step(*source_)),
      executor_(limited_ ? *limited_ : *source_, signaler_, engine::process_facts(), ::getpid()),
      controller_(limited_ ? *limited_ : *source_, executor_, clock_, *this),
      loop_(std::move(loop)) {}

Result<void> Guarding::arm(const core::GuardSpec& spec, pid_t pid) {
  engine::Target target;
  target.scope = spec.scope;
  target.pid = pid;
  target.owner_uid = ::getuid();
  target.any_uid = true;
  steps_ = 0;
  back_unders_ = 0;
  auto guard = controller_.arm(spec, target);
  if (!guard) {
    return guard.error();
  }
  guard_ = guard.value();
  return controller_.start(guard_, 0);
}

void Guarding::release() {
  controller_.release(guard_);
  controller_.forget(guard_);
}

Result<void> Guarding::run_until(const std::function<bool()>& done) {
  const core::Ns deadline = clock_.now() + kPatience;
  while (!done()) {
    if (clock_.now() >= deadline) {
      return Error("waiting for procguard's step: none came");
    }
    if (auto set = loop_.set_timer(std::min(controller_.next_due(), deadline)); !set) {
      return set;
    }
    if (auto ran = loop_.run_once(); !ran) {
      return ran;
    }
  }
  return {};
}

void Guarding::on_event(const pg_guard& guard, const pg_event& event, const engine::Outcome*) {
  if (event.kind == PG_EVENT_STEP) {
    steps_++;
    over_since_ = guard.limit[PG_MEMORY].over_since_ns;
    due_ = event.due_ns;
  } else if (event.kind == PG_EVENT_BACK_UNDER) {
    back_unders_++;
  }
}

core::Ladder one_step(int signal) {
  const pg_step step{.action = PG_ACTION_SIGNAL,
                     .signal = static_cast<__u32>(signal),
                     .wait_ns = 1000 * core::kSecond};
  return {step, step};
}

}  // namespace procguard::bench
