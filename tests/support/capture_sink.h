// SPDX-License-Identifier: Apache-2.0
// CaptureSink: keeps the events, and as words: "armed over memory/0=sent released".
#pragma once

#include <string>
#include <vector>

#include "core/guard.h"
#include "engine/event_sink.h"

namespace procguard::test {

class CaptureSink final : public engine::EventSink {
 public:
  struct Told {
    pg_guard guard;
    pg_event event;
    bool has_outcome;
    engine::Outcome outcome;
  };
  std::vector<Told> told;

  void on_event(const pg_guard& guard, const pg_event& event,
                const engine::Outcome* outcome) override {
    told.push_back({guard, event, outcome != nullptr, outcome ? *outcome : engine::Outcome{}});
  }

  std::string words() const {
    std::string text;
    for (const Told& t : told) {
      text += text.empty() ? "" : " ";
      text += t.event.kind == PG_EVENT_STEP
                  ? std::string(core::resource_name(t.event.resource)) + "/" +
                        std::to_string(t.event.step) + "=" + core::result_name(t.event.result)
                  : std::string(core::event_name(t.event.kind));
    }
    return text;
  }
};

}  // namespace procguard::test
