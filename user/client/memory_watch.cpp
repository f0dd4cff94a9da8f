// SPDX-License-Identifier: Apache-2.0
#include "client/memory_watch.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>

#include "client/futex.h"
#include "engine/bpf_source.h"
#include "engine/procfs_source.h"
#include "sys/caps.h"
#include "sys/namespaces.h"
#include "sys/procfs.h"

namespace procguard::client {
namespace {

// Attaching costs milliseconds: a guard in a loop must not do that each time.
constexpr core::Ns kUnusedFor = 10 * core::kSecond;

enum class Wish { kAuto, kBpf, kProcfs };

Result<Wish> wish() {
  const char* text = std::getenv("PROCGUARD_SOURCE");
  if (text == nullptr || *text == '\0' || std::strcmp(text, "auto") == 0) {
    return Wish::kAuto;
  }
  if (std::strcmp(text, "bpf") == 0) {
    return Wish::kBpf;
  }
  if (std::strcmp(text, "procfs") == 0) {
    return Wish::kProcfs;
  }
  return Error("PROCGUARD_SOURCE: '" + std::string(text) + "' is none of auto, bpf, procfs",
               EINVAL);
}

bool may_have_bpf() {
  const auto capabilities = sys::read_capabilities();
  return capabilities && sys::missing_for_bpf(capabilities.value()).empty() &&
         sys::in_host_pid_namespace();
}

Result<std::unique_ptr<engine::BpfSource>> make_bpf(const core::Clock& clock) {
  if (!may_have_bpf()) {
    return Error("BPF needs CAP_BPF, CAP_PERFMON and the host's pid namespace", EPERM);
  }
  engine::BpfSourceOptions options;
  // One process: the maps hold it and what it forks while it is being looked at.
  options.load.watches = 1;
  options.load.processes = 64;
  options.load.threads = 4096;
  options.load.cgroups = false;
  options.account_memory = true;
  options.account_time = false;
  return engine::BpfSource::create(clock, options);
}

}  // namespace

const char* likely_source_name() {
  const auto wanted = wish();
  const bool bpf =
      wanted && (wanted.value() == Wish::kBpf || (wanted.value() == Wish::kAuto && may_have_bpf()));
  return bpf ? "bpf" : "procfs";
}

int MemoryWatch::use() {
  users_.fetch_add(1);
  if (state_.load() == kRunning) {
    return 0;
  }
  std::uint32_t off = kOff;
  std::uint32_t failed = kFailed;
  if (!state_.compare_exchange_strong(off, kWanted)) {
    state_.compare_exchange_strong(failed, kWanted);
  }
  return EAGAIN;
}

int MemoryWatch::wait_until_started() {
  std::uint32_t state = state_.load();
  while (state == kWanted || state == kOff) {
    futex_wait(state_, state);
    state = state_.load();
  }
  return state == kRunning ? 0 : error_.load();
}

std::uint64_t MemoryWatch::rss_bytes() const {
  const __s64* level = level_.load(std::memory_order_acquire);
  if (level != nullptr) {
    const __s64 bytes = __atomic_load_n(level, __ATOMIC_RELAXED);
    return bytes > 0 ? static_cast<std::uint64_t>(bytes) : 0;
  }
  const auto bytes = sys::ProcRoot().rss_bytes(::getpid());
  return bytes ? bytes.value() : 0;
}

core::Ns MemoryWatch::serve(core::Ns now) {
  if (state_.load() == kWanted) {
    const auto started = start();
    error_ = started ? 0 : (started.error().code() == EINVAL ? EINVAL : ENOSYS);
    if (!started) {
      std::fprintf(stderr, "procguard: memory guards: %s\n", started.error().message().c_str());
    }
    state_ = started ? kRunning : kFailed;
    futex_wake_all(state_);
    unused_since_ = core::kNever;
  }
  if (!running()) {
    return core::kNever;
  }
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

Result<void> MemoryWatch::start() {
  const auto wanted = wish();
  if (!wanted) {
    return wanted.error();
  }
  engine::BpfSource* bpf = nullptr;
  if (wanted.value() != Wish::kProcfs) {
    auto made = make_bpf(clock_);
    if (!made && wanted.value() == Wish::kBpf) {
      return made.error().in("source bpf");
    }
    if (!made && made.error().code() != EPERM) {
      std::fprintf(stderr, "procguard: memory guards read /proc: %s\n",
                   made.error().message().c_str());
    }
    if (made) {
      bpf = made->get();
      source_ = std::move(made).value();
    }
  }
  if (bpf == nullptr) {
    auto made = engine::ProcfsSource::create(clock_, engine::default_procfs_options());
    if (!made) {
      return made.error().in("source procfs");
    }
    procfs_ = made->get();
    source_ = std::move(made).value();
  }
  engine::Target self;
  self.scope = PG_SCOPE_PROCESS;
  self.pid = ::getpid();
  self.owner_uid = ::getuid();
  auto watch = source_->watch(self);
  if (!watch) {
    stop();
    return watch.error().in("watching this process");
  }
  watch_ = watch.value();
  level_ = bpf == nullptr ? nullptr : bpf->memory_level(watch_);
  source_name_ = source_->name();
  return {};
}

void MemoryWatch::stop() {
  level_ = nullptr;
  source_name_ = nullptr;
  source_.reset();
  procfs_ = nullptr;
  watch_ = 0;
  in_force_ = {};
  std::fill(std::begin(over_when_armed_), std::end(over_when_armed_), 0);
  unused_since_ = core::kNever;
}

void MemoryWatch::abandon() {
  stop();
  users_ = 0;
  state_ = kOff;
  armed_bytes_ = core::kNever;
}

MemoryView MemoryWatch::view() {
  MemoryView view;
  if (!running()) {
    return view;
  }
  const auto levels = source_->levels(watch_);
  if (!levels) {
    return view;
  }
  view.bytes = levels->memory_bytes;
  for (int i = 0; i < 2; ++i) {
    // What was over already when its threshold was put in force has not crossed then.
    const core::Ns since = levels->memory[i].over_since_ns;
    view.crossings[i] = {in_force_.memory[i].bytes, since == over_when_armed_[i] ? 0 : since};
  }
  return view;
}

bool MemoryWatch::arm(const Round& round, const MemoryView& seen) {
  if (!running()) {
    return false;
  }
  if (procfs_ != nullptr && round.check_interval_ns != core::kNever) {
    procfs_->set_check_interval(round.check_interval_ns);
  }
  engine::Thresholds wanted;
  wanted.memory[0].bytes = round.nearest_above == core::kNever ? 0 : round.nearest_above;
  wanted.memory[1].bytes = round.nearest_below;
  bool crossed = false;
  if (wanted.memory[0].bytes != in_force_.memory[0].bytes ||
      wanted.memory[1].bytes != in_force_.memory[1].bytes) {
    put_in_force(wanted);
    const std::uint64_t now = rss_bytes();  // in force; now the level as it is
    crossed = now != seen.bytes && (now > round.nearest_above || now < round.nearest_below);
  }
  armed_bytes_ = in_force_.memory[0].bytes == 0 ? core::kNever : in_force_.memory[0].bytes;
  return crossed;
}

void MemoryWatch::put_in_force(const engine::Thresholds& wanted) {
  if (!source_->set_thresholds(watch_, wanted)) {
    return;
  }
  const auto levels = source_->levels(watch_);
  for (int i = 0; i < 2; ++i) {
    if (wanted.memory[i].bytes != in_force_.memory[i].bytes) {
      over_when_armed_[i] = levels ? levels->memory[i].over_since_ns : 0;
    }
  }
  in_force_ = wanted;
}

int MemoryWatch::event_fd() const {
  return source_ == nullptr ? -1 : source_->event_fd();
}

void MemoryWatch::drain() {
  if (source_ != nullptr) {
    static_cast<void>(source_->drain());
  }
}

core::Ns MemoryWatch::next_check(core::Ns now) const {
  return source_ == nullptr ? core::kNever : source_->next_check(now);
}

}  // namespace procguard::client
