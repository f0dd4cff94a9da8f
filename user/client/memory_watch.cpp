// SPDX-License-Identifier: Apache-2.0
#include "client/memory_watch.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <utility>

#include "client/futex.h"
#include "client/shown.h"
#include "client/thread.h"
#include "engine/bpf_source.h"
#include "engine/procfs_source.h"

namespace procguard::client {
namespace {

// Attaching costs milliseconds: a guard in a loop must not do that each time.
constexpr core::Ns kUnusedFor = 10 * core::kSecond;
// How often an agent that has gone is looked for; more and more seldom where it does not do its
// part.
constexpr core::Ns kSeekEvery = core::kSecond;
constexpr core::Ns kSeekSeldom = 60 * core::kSecond;
// Reading a number takes nanoseconds, but the reader may have lost its CPU.
constexpr core::Ns kReadersGone = 10 * core::kMillisecond;
// After a look that was in vain, or where nobody tells of crossings.
constexpr core::Ns kLookAgain = 10 * core::kMillisecond;

// It is not there, is not for us, or has ended. Else something is wrong with it.
bool is_away(const Error& why) {
  constexpr int kAway[] = {ENOENT, ECONNREFUSED, EACCES, ECONNRESET, EPIPE};
  return std::find(std::begin(kAway), std::end(kAway), why.code()) != std::end(kAway);
}

bool wants_agent(Wish wish) {
  return wish == Wish::kAuto || wish == Wish::kAgent;
}

}  // namespace

int MemoryWatch::use() {
  users_.fetch_add(1);
  return state_.load() == kRunning ? 0 : EAGAIN;
}

// Nobody else makes it wanted; the monitor may have found meanwhile that it goes on running.
void MemoryWatch::want() {
  std::uint32_t state = state_.load();
  if (state == kOff || state == kFailed) {
    wanted_ = read_environment();
    state_.compare_exchange_strong(state, kWanted);
  }
}

int MemoryWatch::wait_until_started() {
  std::uint32_t state = state_.load();
  while (state == kWanted || state == kOff) {
    futex_wait(state_, state);
    state = state_.load();
  }
  return state == kRunning ? 0 : error_.load();
}

Result<std::uint64_t> MemoryWatch::rss_bytes() const {
  readers_.fetch_add(1);
  const __s64* level = level_.load();
  const __s64 read = level == nullptr ? 0 : __atomic_load_n(level, __ATOMIC_RELAXED);
  readers_.fetch_sub(1);
  return read > 0 ? static_cast<std::uint64_t>(read) : rss_.read();
}

core::Ns MemoryWatch::serve(core::Ns now) {
  if (readings_.source != nullptr) {
    static_cast<void>(readings_.source->drain());
  }
  core::Ns next = core::kNever;
  if (state_.load() != kOff) {
    rss_.open();  // before all else: no descriptor may be left afterwards
  }
  if (state_.load() == kWanted) {
    next = start(now);
  }
  if (running()) {
    next = std::min(next, follow_agent(now));
    next = std::min(next, stop_if_unused(now));
  }
  return next;
}

// Called again until it is no longer wanted: the agent's answer is awaited in between.
core::Ns MemoryWatch::start(core::Ns now) {
  if (!wanted_.source) {
    started(wanted_.source.error());
    return core::kNever;
  }
  wish_ = wanted_.source.value();
  socket_ = wanted_.socket;
  auto answer = AgentSeeker::Answer::kNone;
  if (wants_agent(wish_)) {
    answer = seeker_.ask(socket_);
    if (answer == AgentSeeker::Answer::kPending) {
      return seeker_.next_check(now);
    }
  }
  if (answer == AgentSeeker::Answer::kAccepted) {
    started(start_agents());
    return core::kNever;
  }
  if (wish_ == Wish::kAgent) {
    started(seeker_.why().in("source agent"));
    return core::kNever;
  }
  if (wish_ == Wish::kAuto) {
    seek_later(now, seeker_.why());
    if (!is_away(seeker_.why())) {
      tell_once(seeker_.why());
    }
  }
  started(start_own(wish_));
  return core::kNever;
}

void MemoryWatch::started(const Result<void>& result) {
  if (!result) {
    error_ = result.error().code() == EINVAL ? EINVAL : ENOSYS;
    tell(": " + result.error().message());
  }
  state_ = result ? kRunning : kFailed;
  futex_wake_all(state_);
  unused_since_ = core::kNever;
}

Result<void> MemoryWatch::start_own(Wish wanted) {
  auto own = make_own_source(wanted, clock_);
  if (!own) {
    return own.error();
  }
  if (!own->weaker_because.empty()) {
    tell(" read /proc: " + own->weaker_because);
  }
  return put_to_use(std::move(own).value());
}

Result<void> MemoryWatch::start_agents() {
  Readings readings;
  auto source = seeker_.take();
  readings.agent = source.get();
  readings.source = std::move(source);
  if (auto put = put_to_use(std::move(readings)); !put) {
    return put;
  }
  agent_was_used_ = true;
  SessionPage::instance().open();
  show_all_entries();
  return {};
}

// The new one watches before the old one goes. Its thresholds are put in force by the round that
// follows, which compares the level with them: what crossed meanwhile is seen there.
Result<void> MemoryWatch::put_to_use(Readings readings) {
  engine::Target self;
  self.scope = PG_SCOPE_PROCESS;
  self.pid = ::getpid();
  self.owner_uid = ::getuid();
  const auto watch = readings.source->watch(self);
  if (!watch) {
    return watch.error().in("watching this process");
  }
  retire_source();
  readings_ = std::move(readings);
  watch_ = watch.value();
  source_name_ = readings_.source->name();
  return {};
}

void MemoryWatch::retire_source() {
  if (readings_.agent != nullptr) {
    SessionPage::close();
  }
  level_ = nullptr;
  if (readings_.source != nullptr) {
    retired_.push_back(std::move(readings_.source));
  }
  readings_ = {};
  watch_ = 0;
  in_force_ = {};
  std::fill(std::begin(over_when_armed_), std::end(over_when_armed_), 0);
}

core::Ns MemoryWatch::free_retired(core::Ns now) {
  seeker_.free();
  if (!retired_.empty() && readers_.load() != 0) {  // who comes from now on finds another level_
    return now + kReadersGone;
  }
  retired_.clear();
  return core::kNever;
}

// Goes on without an agent that is lost, and looks whether there is one again.
core::Ns MemoryWatch::follow_agent(core::Ns now) {
  if (readings_.agent != nullptr) {
    const auto lost = readings_.agent->lost();
    if (!lost) {
      return core::kNever;
    }
    if (wish_ == Wish::kAgent || !is_away(*lost)) {
      tell_once(*lost);
    }
    seek_later(now, *lost);
    fall_back();
  }
  if (!agent_was_used_ || !wants_agent(wish_)) {
    return core::kNever;
  }
  if (now < seek_at_ns_) {
    return seek_at_ns_;
  }
  const auto answer = seeker_.ask(socket_);
  if (answer == AgentSeeker::Answer::kPending) {
    return seeker_.next_check(now);
  }
  if (answer == AgentSeeker::Answer::kAccepted) {
    static_cast<void>(start_agents());  // accepts this process as what is watched
    return core::kNever;
  }
  seek_later(now, seeker_.why());
  if (readings_.source == nullptr) {
    fall_back();
  }
  return seek_at_ns_;
}

// Where not even that can be had (no descriptor is free) the monitor looks by itself.
void MemoryWatch::fall_back() {
  if (auto own = start_own(Wish::kAuto); !own) {
    tell_once(own.error());
    retire_source();
    source_name_ = nullptr;
  }
}

void MemoryWatch::seek_later(core::Ns now, const Error& why) {
  seek_wait_ = is_away(why) ? kSeekEvery : std::clamp(2 * seek_wait_, kSeekEvery, kSeekSeldom);
  seek_at_ns_ = now + seek_wait_;
}

// Written when the turn is over: whoever reads them may be stuck, and others wait for the turn.
void MemoryWatch::tell(const std::string& text) {
  messages_.push_back("procguard: memory guards" + text + "\n");
}

void MemoryWatch::tell_once(const Error& why) {
  if (!std::exchange(told_, true)) {
    tell(" go on without the agent: " + why.message());
  }
}

core::Ns MemoryWatch::stop_if_unused(core::Ns now) {
  if (in_use()) {
    unused_since_ = core::kNever;
    return core::kNever;
  }
  unused_since_ = unused_since_ == core::kNever ? now : unused_since_;
  if (now < unused_since_ + kUnusedFor) {
    return unused_since_ + kUnusedFor;
  }
  state_ = kOff;
  if (in_use()) {  // somebody came in just before
    state_ = kRunning;
    futex_wake_all(state_);
    return core::kNever;
  }
  stop();
  return core::kNever;
}

void MemoryWatch::stop() {
  seeker_.give_up();
  retire_source();
  source_name_ = nullptr;
  unused_since_ = core::kNever;
}

void MemoryWatch::abandon() {
  stop();
  readers_ = 0;
  free_retired(0);
  rss_.abandon();
  messages_.clear();
  seen_bytes_ = 0;
  users_ = 0;
  state_ = kOff;
  armed_bytes_ = core::kNever;
}

MemoryView MemoryWatch::view() {
  MemoryView view;
  if (!running()) {
    return view;
  }
  // The level before what the source says of it: a crossing meanwhile is an event of its own.
  const auto bytes = rss_bytes();
  const auto levels = readings_.source == nullptr
                          ? Result<engine::Levels>(Error("nobody watches the memory"))
                          : readings_.source->levels(watch_);
  look_again_ns_ = core::kNever;
  if (!bytes || !levels) {
    look_again();
  }
  if (bytes) {
    seen_bytes_ = bytes.value();
  } else if (readings_.agent != nullptr) {
    seen_bytes_ = levels->memory_bytes != 0 ? levels->memory_bytes : seen_bytes_;
    readings_.agent->ask_level();
  }
  view.bytes = seen_bytes_;
  if (!levels) {
    return view;
  }
  for (int i = 0; i < 2; ++i) {
    // What was over already when its threshold was put in force has not crossed then.
    const engine::ThresholdState& state = levels->memory[i];
    const core::Ns since = state.over_since_ns;
    const bool crossed = since != over_when_armed_[i] && since != state.set_over_since_ns;
    view.crossings[i] = {in_force_.memory[i].bytes, crossed ? since : 0};
  }
  return view;
}

bool MemoryWatch::arm(const Round& round, const MemoryView& seen) {
  if (!running() || readings_.source == nullptr) {
    return false;
  }
  if (readings_.procfs != nullptr && round.check_interval_ns != core::kNever) {
    readings_.procfs->set_check_interval(round.check_interval_ns);
  }
  engine::Thresholds wanted;
  wanted.memory[0].bytes = round.nearest_above == core::kNever ? 0 : round.nearest_above;
  wanted.memory[1].bytes = round.nearest_below;
  bool crossed = false;
  if (wanted.memory[0].bytes != in_force_.memory[0].bytes ||
      wanted.memory[1].bytes != in_force_.memory[1].bytes) {
    put_in_force(wanted);
    const auto now = rss_bytes();  // in force; now the level as it is
    crossed = now && now.value() != seen.bytes &&
              (now.value() > round.nearest_above || now.value() < round.nearest_below);
  }
  armed_bytes_ = in_force_.memory[0].bytes == 0 ? core::kNever : in_force_.memory[0].bytes;
  return crossed;
}

void MemoryWatch::put_in_force(const engine::Thresholds& wanted) {
  const auto put = readings_.source->set_thresholds(watch_, wanted);
  // The kernel keeps the level from then on.
  level_ = put && readings_.bpf != nullptr ? readings_.bpf->memory_level(watch_) : nullptr;
  if (!put) {
    look_again();
    return;
  }
  const auto levels = readings_.source->levels(watch_);
  for (int i = 0; i < 2; ++i) {
    if (wanted.memory[i].bytes != in_force_.memory[i].bytes) {
      over_when_armed_[i] = levels ? levels->memory[i].over_since_ns : 0;
    }
  }
  in_force_ = wanted;
}

std::array<int, 2> MemoryWatch::event_fds() const {
  return {readings_.source == nullptr ? -1 : readings_.source->event_fd(), seeker_.event_fd()};
}

void MemoryWatch::look_again() {
  look_again_ns_ = clock_.now() + kLookAgain;
}

core::Ns MemoryWatch::next_check(core::Ns now) const {
  if (!running()) {
    return core::kNever;
  }
  return readings_.source == nullptr ? look_again_ns_
                                     : std::min(look_again_ns_, readings_.source->next_check(now));
}

}  // namespace procguard::client
