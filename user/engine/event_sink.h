// SPDX-License-Identifier: Apache-2.0
// EventSink: where guard events go. The controller calls it from its own thread; it must not block.
#pragma once

#include "bpf/contract.h"
#include "engine/executor.h"

namespace procguard::engine {

class EventSink {
 public:
  virtual ~EventSink() = default;
  // `outcome` is given with PG_EVENT_STEP only.
  virtual void on_event(const pg_guard& guard, const pg_event& event, const Outcome* outcome) = 0;
};

}  // namespace procguard::engine
