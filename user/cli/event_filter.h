// SPDX-License-Identifier: Apache-2.0
// Which events a user wants to see. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "proto/messages.h"

namespace procguard::cli {

// key=value[,key=value] over event, guard, name, resource, scope, result, signal. Of a key that
// stands there more than once any value will do; of different keys all must hold.
class EventFilter {
 public:
  EventFilter() = default;  // all of them
  // An unknown key, and a value that no event can have, are errors.
  static Result<EventFilter> parse(std::string_view text);

  bool empty() const { return terms_.empty(); }
  // `kind`: one of proto::event_kinds(event).
  bool wants(const proto::EventBody& event, std::string_view kind) const;

 private:
  enum class Key { kEvent, kGuard, kName, kResource, kScope, kResult, kSignal };
  struct Term {
    Key key;
    std::string value;  // as value_of() has it
  };
  static Result<Term> parse_term(std::string_view text);
  static Result<std::string> parse_value(Key key, std::string_view text);
  static std::string value_of(Key key, const proto::EventBody& event, std::string_view kind);

  std::vector<Term> terms_;
};

}  // namespace procguard::cli
