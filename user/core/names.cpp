// SPDX-License-Identifier: Apache-2.0
// The words of the vocabulary for the numbers of the contract header: log, report and trace say the
// same. Total: a number from a map or a message may be anything.
#include "core/guard.h"

namespace procguard::core {

const char* resource_name(std::uint32_t resource) {
  switch (resource) {
    case PG_TIMEOUT:
      return "timeout";
    case PG_CPU:
      return "cpu";
    case PG_MEMORY:
      return "memory";
    case PG_MEMORY_GROWTH:
      return "memory_growth";
    default:
      return "none";
  }
}

const char* result_name(std::uint32_t result) {
  switch (result) {
    case PG_RESULT_NONE:
      return "none";
    case PG_RESULT_INTENT:
      return "intent";
    case PG_RESULT_SENT:
      return "sent";
    case PG_RESULT_FAILED:
      return "failed";
    case PG_RESULT_REFUSED:
      return "refused";
    case PG_RESULT_IGNORED:
      return "ignored";
    case PG_RESULT_PENDING:
      return "pending";
    case PG_RESULT_MERGED:
      return "merged";
    case PG_RESULT_DRY_RUN:
      return "dry_run";
    case PG_RESULT_GONE:
      return "gone";
    default:
      return "unknown";
  }
}

const char* event_name(std::uint32_t kind) {
  switch (kind) {
    case PG_EVENT_ARMED:
      return "armed";
    case PG_EVENT_OVER:
      return "over";
    case PG_EVENT_BACK_UNDER:
      return "back_under";
    case PG_EVENT_STEP:
      return "step";
    case PG_EVENT_RELEASED:
      return "released";
    case PG_EVENT_TARGET_EXITED:
      return "target_exited";
    case PG_EVENT_DEGRADED:
      return "degraded";
    case PG_EVENT_CHANGED:
      return "changed";
    case PG_EVENT_PAUSED:
      return "paused";
    case PG_EVENT_RESUMED:
      return "resumed";
    case PG_EVENT_AGENT_GAP:
      return "agent_gap";
    case PG_EVENT_LOST:
      return "events_lost";
    default:
      return "unknown";
  }
}

const char* by_name(std::uint32_t by) {
  switch (by) {
    case PG_BY_CONTROLLER:
      return "controller";
    case PG_BY_KERNEL:
      return "kernel";
    default:
      return "none";
  }
}

const char* scope_name(std::uint32_t scope) {
  switch (scope) {
    case PG_SCOPE_THREAD:
      return "thread";
    case PG_SCOPE_PROCESS:
      return "process";
    case PG_SCOPE_TREE:
      return "tree";
    case PG_SCOPE_CGROUP:
      return "cgroup";
    default:
      return "none";
  }
}

const char* phase_name(std::uint32_t phase) {
  switch (phase) {
    case 0:
      return "held";
    case PG_GUARD_ARMED:
      return "armed";
    case PG_GUARD_RELEASED:
      return "released";
    case PG_GUARD_ENDED:
      return "ended";
    default:
      return "unknown";
  }
}

const char* limit_phase_name(std::uint32_t phase) {
  switch (phase) {
    case PG_LIMIT_WAITING:
      return "within";
    case PG_LIMIT_OVER:
      return "over";
    case PG_LIMIT_TRIPPED:
      return "tripped";
    case PG_LIMIT_DONE:
      return "done";
    default:
      return "none";
  }
}

}  // namespace procguard::core
