// SPDX-License-Identifier: Apache-2.0
#include "cli/event_stream.h"

#include "proto/event_json.h"
#include "proto/event_kinds.h"

namespace procguard::cli {
namespace {

proto::EventBody lost_before(const proto::EventBody& next, std::uint64_t lost) {
  proto::EventBody event;
  event.seq = next.seq - 1;
  event.real_ns = next.real_ns;
  event.event.kind = PG_EVENT_LOST;
  event.event.at_ns = next.event.at_ns;
  event.event.resource = PG_RESOURCES;
  event.event.observed = lost;
  return event;
}

}  // namespace

std::string EventStream::text_of(const proto::EventBody& event) {
  const auto kinds = proto::event_kinds(event);
  std::string text;
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    if (!options_.filter.wants(event, kinds[i])) {
      continue;
    }
    printed_ = true;
    if (!options_.json) {
      return proto::event_line(event) + "\n";  // both of its kinds on one line
    }
    text += proto::event_json(event)[i] + "\n";
  }
  return text;
}

std::string EventStream::text(const std::vector<proto::EventBody>& events) {
  std::string text;
  for (const proto::EventBody& event : events) {
    if (sees_all_ && last_seq_ != 0 && event.seq > last_seq_ + 1) {
      text += text_of(lost_before(event, event.seq - last_seq_ - 1));
    }
    last_seq_ = event.seq;
    text += text_of(event);
  }
  return text;
}

}  // namespace procguard::cli
