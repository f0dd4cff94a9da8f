// SPDX-License-Identifier: Apache-2.0
// The guard machine: step(state, input, now) -> actions. A pure function over pg_guard, the one
// struct that is a guard's whole state. No I/O, no clock, no allocation but the list of actions.
//
// Each limit of a guard climbs the ladder by itself. Rows of the specification's tables:
//   timeout        step 0 at start + timeout, then a step grace apart; progress starts anew
//   memory, growth over at over_since; step 0 at over_since + grace; falling below the limit
//                  before the last step takes it back to the foot of the ladder
//   cpu            step 0 when the level is over the limit; never recovers
// After its last step a limit does nothing more (PG_LIMIT_DONE).
//
// Waits: a step's own wait_ns, else the limit's step_grace_ns. The steps stand on a grid: small
// lateness does not add up. A step taken late by more than a tenth of the wait that follows it (the
// controller was stopped) starts the grid anew, so that the target keeps its time to react.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "bpf/contract.h"
#include "core/clock.h"
#include "core/ladder.h"
#include "core/result.h"

namespace procguard::core {

// Two limits that would send the same signal within this time send one.
inline constexpr Ns kMergeSignals = 10 * kMillisecond;

// What a guard is made from. A limit of 0 is "none" unless `timeout_given`.
struct GuardSpec {
  std::string name;
  pg_scope scope = PG_SCOPE_PROCESS;
  pg_mode mode = PG_MODE_ENFORCE;
  std::uint32_t owner_uid = 0;
  bool timeout_given = false;  // Python's timeout=0 fires at once
  Ns timeout_ns = 0;
  Ns cpu_ns = 0;
  std::uint64_t memory_bytes = 0;
  std::uint64_t memory_growth_bytes = 0;
  Ns grace_ns = 0;       // memory limits only
  Ns step_grace_ns = 0;  // 0 = the resource's default
  Ladder ladder;
  std::uint32_t flags = 0;  // enum pg_guard_flags: FAILSAFE, ANY_UID
  pg_origin origin = PG_ORIGIN_LOCAL;
};

// Checked and turned into state; not started: no limit counts before the Start input. Errors: no
// limit, no ladder, a bad step, a name that does not fit.
Result<pg_guard> make_guard(const GuardSpec& spec, std::uint64_t id);

// --- inputs -------------------------------------------------------------------------------------

// The guard begins at `now` (run: the completed exec). CPU and RSS at entry are the bases of cpu
// and memory_growth. Takes no step: the Tick that follows does.
struct Start {
  std::uint64_t cpu_ns = 0;
  std::uint64_t rss_bytes = 0;
};
// Time has passed; nothing else is known.
struct Tick {};
struct Progress {};
// A level as the source has it. over_since_ns: when it rose over the limit, by the source's clock;
// 0 = it is not over. `value` in bytes or ns, absolute (bases not subtracted).
struct Level {
  pg_resource resource;
  std::uint64_t value = 0;
  std::uint64_t over_since_ns = 0;
};
// The kernel itself sent the ladder's first signal at a crossing (it is followed up in user space
// for the members that did not run since). Once an episode, before that episode's Level.
struct KernelActed {
  pg_resource resource;
  std::uint32_t pid = 0;
  Ns at_ns = 0;
  std::uint64_t value = 0;          // the level now, as in Level
  std::uint64_t over_since_ns = 0;  // as in Level; 0 if the level has fallen again
};
// What became of the step taken last. Ignored: nobody could take it, the next one is due at once.
struct StepResult {
  pg_result result;
  int error = 0;
  Ns due_ns = 0;  // TakeStep::due_ns
};
struct TargetGone {};
struct Release {};
// A limit changed while armed (0 = leave as it is), or added: it counts from the guard's start. A
// limit that is through with its ladder stays so.
struct SetLimit {
  pg_resource resource;
  std::uint64_t limit;
  std::uint64_t level = 0;  // of now: a growth limit that is added counts from it
};
// A paused guard takes no step, and its clocks stand still: on resuming, what passed and what CPU
// was used meanwhile is not counted, waits go on where they were, and a level over its limit is a
// crossing of that moment.
struct Pause {
  std::uint64_t cpu_ns = 0;
};
struct Resume {
  std::uint64_t cpu_ns = 0;
};
// Another controller has died; this one goes on. A step of which only the intent is known is told
// as such, and taken again if it is a SIGKILL.
struct Adopt {};
// The kernel took the last step of this limit by itself while no agent ran.
struct FailsafeActed {
  pg_resource resource;
  std::uint32_t pid = 0;
  Ns at_ns = 0;
  std::uint64_t value = 0;  // the level now, as in Level; not for timeout
};

using Input = std::variant<Start, Tick, Progress, Level, KernelActed, StepResult, TargetGone,
                           Release, SetLimit, Pause, Resume, Adopt, FailsafeActed>;

// --- actions ------------------------------------------------------------------------------------

// Take a step of the ladder now. The state already says "intent"; answer with StepResult.
struct TakeStep {
  pg_resource resource;
  std::uint32_t index;
  pg_step step;
  Ns due_ns;                 // when it should have begun
  bool last;                 // the ladder's last step
  std::uint32_t kernel_pid;  // the kernel has already signalled this process; 0 = none
};
// Tell the world.
struct Emit {
  pg_event event;
};
using Action = std::variant<TakeStep, Emit>;
using Actions = std::vector<Action>;

// At most one TakeStep a call: a caller that got one answers with StepResult before it goes on, and
// calls step(Tick) again until next_due() lies in the future. In monitor mode the answer is
// PG_RESULT_DRY_RUN. Events: one "armed" a limit; "over" and "back under" as levels cross; one
// "step" a step, with its result. `resource` of an event about the whole guard is PG_RESOURCES.
Actions step(pg_guard& guard, const Input& input, Ns now);

// When the machine wants a Tick at the latest; kNever if nothing is due.
Ns next_due(const pg_guard& guard);

// When the last step of a limit will be due if nothing changes; kNever: it is not on its way there.
Ns last_step_due(const pg_guard& guard, pg_resource resource);

// True while some limit can still take a step.
bool active(const pg_guard& guard);

// An event about this guard; resource PG_RESOURCES: about all of it.
pg_event make_event(const pg_guard& guard, pg_event_kind kind, std::uint32_t resource, Ns now);

const char* resource_name(std::uint32_t resource);  // "timeout", "cpu", "memory", "memory_growth"
const char* result_name(std::uint32_t result);      // "sent", "failed", ...
const char* event_name(std::uint32_t kind);         // "armed", "over", ...
const char* by_name(std::uint32_t by);              // "controller", "kernel"
const char* scope_name(std::uint32_t scope);        // "thread", "process", "tree", "cgroup"
const char* phase_name(std::uint32_t phase);        // "armed", "released", "ended"
const char* limit_phase_name(std::uint32_t phase);  // "within", "over", "tripped", "done"

}  // namespace procguard::core
