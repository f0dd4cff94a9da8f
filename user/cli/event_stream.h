// SPDX-License-Identifier: Apache-2.0
// Events as they come from the agent, as the text that the user asked for. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/agent_options.h"
#include "proto/messages.h"

namespace procguard::cli {

class EventStream {
 public:
  // `sees_all`: the asker is told of everybody's events. To others a number that is left out means
  // nothing.
  EventStream(const EventsOptions& options, bool sees_all)
      : options_(options), last_seq_(options.since.seq), sees_all_(sees_all) {}

  // Lines for these events. Where numbers are missing before one, events were lost: it says so.
  std::string text(const std::vector<proto::EventBody>& events);
  bool printed() const { return printed_; }

 private:
  std::string text_of(const proto::EventBody& event);

  const EventsOptions& options_;
  std::uint64_t last_seq_;
  bool sees_all_;
  bool printed_ = false;
};

}  // namespace procguard::cli
