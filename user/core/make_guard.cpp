// SPDX-License-Identifier: Apache-2.0
// From what was asked for to the state of a guard that has not begun yet.
#include <algorithm>
#include <cstring>

#include "core/guard.h"

namespace procguard::core {
namespace {

constexpr std::uint32_t kMaxSignal = 64;

Result<void> check_ladder(const Ladder& ladder) {
  if (ladder.empty() || ladder.size() > PG_STEPS) {
    return Error("a ladder has 1 to " + std::to_string(PG_STEPS) + " steps, not " +
                 std::to_string(ladder.size()));
  }
  for (const pg_step& step : ladder) {
    const bool signal =
        step.action == PG_ACTION_SIGNAL && step.signal >= 1 && step.signal <= kMaxSignal;
    if (!signal && step.action != PG_ACTION_EXCEPTION) {
      return Error("a step of the ladder is neither an exception nor a signal");
    }
  }
  return {};
}

void add_limit(pg_guard& guard, const GuardSpec& spec, pg_resource resource, bool given,
               std::uint64_t value) {
  pg_limit& limit = guard.limit[resource];
  const bool memory = resource == PG_MEMORY || resource == PG_MEMORY_GROWTH;
  const Ns preset = memory ? kDefaultStepGraceMemory : kDefaultStepGraceTime;
  limit.limit = value;
  limit.grace_ns = memory ? spec.grace_ns : 0;
  limit.step_grace_ns =
      spec.step_grace_ns == 0 ? preset : std::max<Ns>(spec.step_grace_ns, kMinStepGrace);
  limit.phase = given ? PG_LIMIT_WAITING : PG_LIMIT_NONE;
}

}  // namespace

Result<pg_guard> make_guard(const GuardSpec& spec, std::uint64_t id) {
  const bool timeout = spec.timeout_given || spec.timeout_ns != 0;
  if (!timeout && spec.cpu_ns == 0 && spec.memory_bytes == 0 && spec.memory_growth_bytes == 0) {
    return Error("a guard needs a limit: timeout, cpu, memory or memory_growth");
  }
  if (spec.scope < PG_SCOPE_THREAD || spec.scope > PG_SCOPE_CGROUP) {
    return Error("a guard needs a scope: thread, process, tree or cgroup");
  }
  if (spec.name.size() >= PG_NAME_LEN) {
    return Error("guard name '" + spec.name + "': longer than " + std::to_string(PG_NAME_LEN - 1) +
                 " bytes");
  }
  if (auto checked = check_ladder(spec.ladder); !checked) {
    return checked.error();
  }
  pg_guard guard{};
  guard.abi = PG_ABI;
  guard.size = sizeof(guard);
  guard.id = id;
  guard.scope = spec.scope;
  guard.mode = spec.mode;
  guard.owner_uid = spec.owner_uid;
  guard.flags = spec.flags;
  guard.origin = spec.origin;
  guard.steps = static_cast<std::uint32_t>(spec.ladder.size());
  std::copy(spec.ladder.begin(), spec.ladder.end(), guard.ladder);
  for (pg_step& step : guard.ladder) {
    step.wait_ns = step.wait_ns == 0 ? 0 : std::max<Ns>(step.wait_ns, kMinStepGrace);
  }
  add_limit(guard, spec, PG_TIMEOUT, timeout, spec.timeout_ns);
  add_limit(guard, spec, PG_CPU, spec.cpu_ns != 0, spec.cpu_ns);
  add_limit(guard, spec, PG_MEMORY, spec.memory_bytes != 0, spec.memory_bytes);
  add_limit(guard, spec, PG_MEMORY_GROWTH, spec.memory_growth_bytes != 0, spec.memory_growth_bytes);
  std::memcpy(guard.name, spec.name.data(), spec.name.size());
  return guard;
}

}  // namespace procguard::core
