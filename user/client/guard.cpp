// SPDX-License-Identifier: Apache-2.0
#include "client/guard.h"

#include <cerrno>
#include <cstring>
#include <string>

#include "core/guard.h"
#include "core/ladder.h"

namespace procguard::client {
namespace {

// Longer is a mistake in the caller's arithmetic: 100 years.
constexpr core::Ns kLongest = 100ULL * 366 * 24 * 3600 * core::kSecond;
constexpr std::uint64_t kMostBytes = 1ULL << 62;
constexpr core::Ns kDefaultCheckInterval = 500 * core::kMillisecond;

Result<void> check_time(const char* what, std::uint64_t ns) {
  if (ns > kLongest) {
    return Error(std::string(what) + ": longer than 100 years", EINVAL);
  }
  return {};
}

Result<void> check(const procguard_options& options) {
  const bool timeout = options.resource == PROCGUARD_TIMEOUT;
  if (!timeout && options.resource != PROCGUARD_MEMORY &&
      options.resource != PROCGUARD_MEMORY_GROWTH) {
    return Error("resource: " + std::to_string(options.resource) +
                     " is none of timeout, memory, memory_growth",
                 EINVAL);
  }
  if (options.interrupt_type > PROCGUARD_EXCEPTION_THEN_SIGNAL) {
    return Error("interrupt_type: " + std::to_string(options.interrupt_type) +
                     " is none of exception, signal, exception_then_signal",
                 EINVAL);
  }
  if (timeout ? options.limit > kLongest : options.limit > kMostBytes) {
    return Error(timeout ? "timeout: longer than 100 years" : "max_memory: more than 4 EiB",
                 EINVAL);
  }
  for (const auto& [what, ns] : {std::pair{"grace_period", options.grace_ns},
                                 std::pair{"step grace period", options.step_grace_ns},
                                 std::pair{"check_interval", options.check_interval_ns}}) {
    if (auto checked = check_time(what, ns); !checked) {
      return checked;
    }
  }
  return {};
}

core::GuardSpec spec_of(const procguard_options& options) {
  core::GuardSpec spec;
  spec.name = options.name == nullptr ? "" : options.name;
  spec.scope = PG_SCOPE_THREAD;
  spec.grace_ns = options.grace_ns;
  spec.step_grace_ns = options.step_grace_ns;
  spec.ladder = core::preset_ladder(static_cast<core::Preset>(options.interrupt_type),
                                    options.send_kill != 0);
  spec.timeout_given = options.resource == PROCGUARD_TIMEOUT;
  // The machine's 0 is "no limit". RSS comes in pages: over 1 byte is over 0.
  const std::uint64_t bytes = options.limit == 0 ? 1 : options.limit;
  switch (options.resource) {
    case PROCGUARD_MEMORY:
      spec.memory_bytes = bytes;
      break;
    case PROCGUARD_MEMORY_GROWTH:
      spec.memory_growth_bytes = bytes;
      break;
    default:
      spec.timeout_ns = options.limit;
  }
  return spec;
}

// The caller's options, as far as he knows them: what is newer is 0.
procguard_options copy_of(const procguard_options& options) {
  procguard_options known{};
  std::memcpy(&known, &options, options.size < sizeof(known) ? options.size : sizeof(known));
  return known;
}

}  // namespace

std::mutex& trips_mutex() {
  static auto* const mutex = new std::mutex;  // outlives the monitor thread, which is never joined
  return *mutex;
}

Result<Guard*> make_guard(const procguard_options& given) {
  if (given.size < offsetof(procguard_options, grace_ns)) {
    return Error("options.size: " + std::to_string(given.size) +
                     " is less than the options there were from the beginning",
                 EINVAL);
  }
  const procguard_options options = copy_of(given);
  if (auto checked = check(options); !checked) {
    return checked.error();
  }
  static std::atomic<std::uint64_t> next_id{1};
  auto guard = std::make_unique<Guard>();
  guard->id = next_id.fetch_add(1, std::memory_order_relaxed);
  auto begin = core::make_guard(spec_of(options), guard->id);
  if (!begin) {
    return begin.error();
  }
  guard->begin = begin.value();
  guard->resource = static_cast<pg_resource>(options.resource);
  guard->limit = options.limit;
  guard->check_interval =
      options.check_interval_ns == 0 ? kDefaultCheckInterval : options.check_interval_ns;
  guard->pull = (options.flags & PROCGUARD_PULL) != 0;
  guard->break_syscalls = (options.flags & PROCGUARD_BREAK_SYSCALLS) != 0;
  guard->deliver = options.deliver;
  return guard.release();
}

}  // namespace procguard::client
