// SPDX-License-Identifier: Apache-2.0
#include "agent/event_log.h"

#include <gtest/gtest.h>

#include <string>

namespace procguard::agent {
namespace {

// Of guard `seq % 3`, at time 100 * seq.
EventLog filled(std::size_t capacity, int events) {
  EventLog log(capacity);
  for (int i = 1; i <= events; ++i) {
    proto::EventBody event;
    event.real_ns = 100 * static_cast<std::uint64_t>(i);
    event.event.guard = static_cast<std::uint64_t>(i) % 3;
    EXPECT_EQ(log.add(event).seq, static_cast<std::uint64_t>(i));
  }
  return log;
}

std::string numbers(const EventLog& log, const proto::EventsBody& wanted, std::uint64_t after) {
  std::string text;
  while (const proto::EventBody* event = log.next(wanted, after)) {
    text += (text.empty() ? "" : " ") + std::to_string(event->seq);
    after = event->seq;
  }
  return text;
}

TEST(EventLog, WhatIsAskedFor) {
  struct Row {
    const char* description;
    std::size_t capacity;
    int events;
    proto::EventsBody wanted;
    std::uint64_t after;
    const char* numbers;
  };
  const Row rows[] = {
      {"nothing was added", 4, 0, {}, 0, ""},
      {"some", 4, 3, {}, 0, "1 2 3"},
      {"full", 4, 4, {}, 0, "1 2 3 4"},
      {"the oldest give way", 4, 6, {}, 0, "3 4 5 6"},
      {"after one", 4, 6, {}, 4, "5 6"},
      {"after one that is gone", 4, 6, {}, 1, "3 4 5 6"},
      {"after the last", 4, 6, {}, 6, ""},
      {"after one that is to come", 4, 6, {}, UINT64_MAX, ""},
      {"since a number", 4, 6, {.since_seq = 5}, 0, "6"},
      {"since a time", 8, 6, {.since_real_ns = 401}, 0, "5 6"},
      {"of one guard", 8, 7, {.guard = 1}, 0, "1 4 7"},
      {"of one guard, after one", 8, 7, {.guard = 1}, 1, "4 7"},
      {"of a guard there is not", 8, 7, {.guard = 9}, 0, ""},
      {"room for one", 1, 5, {}, 0, "5"},
      {"no room counts as room for one", 0, 5, {}, 0, "5"},
  };
  for (const Row& row : rows) {
    const EventLog log = filled(row.capacity, row.events);
    EXPECT_EQ(log.last_seq(), static_cast<std::uint64_t>(row.events)) << row.description;
    EXPECT_EQ(numbers(log, row.wanted, row.after), row.numbers) << row.description;
  }
}

TEST(EventLog, NumbersAreItsOwn) {
  EventLog log(2);
  proto::EventBody event;
  event.seq = 77;
  EXPECT_EQ(log.add(event).seq, 1U);
}

}  // namespace
}  // namespace procguard::agent
