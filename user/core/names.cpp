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

}  // namespace procguard::core
