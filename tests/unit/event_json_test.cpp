// SPDX-License-Identifier: Apache-2.0
// Events as JSON objects and as lines for people.
#include "proto/event_json.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <nlohmann/json.hpp>

#include "proto/event_kinds.h"
#include "tests/support/rows.h"

namespace procguard::proto {
namespace {

using nlohmann::json;
using test::step_event;

EventBody event_of(std::uint32_t kind, std::uint32_t resource = PG_RESOURCES) {
  EventBody body = step_event(7, 0, PG_RESULT_NONE);
  body.event.kind = kind;
  body.event.resource = resource;
  return body;
}

std::vector<std::string> names_of(const EventBody& body) {
  std::vector<std::string> names;
  for (const std::string& text : event_json(body)) {
    names.push_back(json::parse(text).at("event"));
  }
  return names;
}

TEST(EventJson, Names) {
  struct Row {
    EventBody body;
    std::vector<std::string> names;
  };
  const Row rows[] = {
      {event_of(PG_EVENT_ARMED, PG_MEMORY), {"guard.armed"}},
      {event_of(PG_EVENT_OVER, PG_MEMORY), {"guard.over"}},
      {event_of(PG_EVENT_BACK_UNDER, PG_MEMORY), {"guard.back_under"}},
      {event_of(PG_EVENT_RELEASED), {"guard.released"}},
      {event_of(PG_EVENT_TARGET_EXITED), {"target.exited"}},
      {event_of(PG_EVENT_DEGRADED), {"watch.degraded"}},
      {event_of(PG_EVENT_CHANGED, PG_CPU), {"guard.changed"}},
      {event_of(PG_EVENT_PAUSED), {"guard.paused"}},
      {event_of(PG_EVENT_RESUMED), {"guard.resumed"}},
      {event_of(PG_EVENT_AGENT_GAP), {"agent.gap"}},
      {event_of(PG_EVENT_LOST), {"events.lost"}},
      {event_of(999), {"unknown"}},
      {step_event(1, 0, PG_RESULT_SENT), {"guard.tripped", "step.sent"}},
      {step_event(1, 0, PG_RESULT_REFUSED), {"guard.tripped", "step.failed"}},
      {step_event(1, 1, PG_RESULT_SENT), {"step.sent"}},
      {step_event(1, 1, PG_RESULT_IGNORED), {"step.sent"}},
      {step_event(1, 1, PG_RESULT_PENDING), {"step.sent"}},
      {step_event(1, 1, PG_RESULT_MERGED), {"step.sent"}},
      {step_event(1, 1, PG_RESULT_DRY_RUN), {"step.sent"}},
      {step_event(1, 1, PG_RESULT_FAILED), {"step.failed"}},
      {step_event(1, 1, PG_RESULT_REFUSED), {"step.failed"}},
      {step_event(1, 1, PG_RESULT_GONE), {"step.failed"}},
      {step_event(1, 1, PG_RESULT_UNKNOWN), {"step.failed"}},
  };
  for (const Row& row : rows) {
    EXPECT_EQ(names_of(row.body), row.names);
    const auto kinds = event_kinds(row.body);
    EXPECT_EQ(std::vector<std::string>(kinds.begin(), kinds.end()), row.names);
  }
}

TEST(EventJson, AStepInFull) {
  EventBody body = step_event(17, 1, PG_RESULT_REFUSED);
  body.event.error = EPERM;
  body.reached = 2;
  body.reached_pids[0] = 11;
  body.reached_pids[1] = 12;
  body.refused = 1;
  body.refused_pids[0] = 13;
  ASSERT_EQ(event_json(body).size(), 1U);
  EXPECT_EQ(
      event_json(body)[0],
      R"({"schema":1,"event":"step.failed","time":"2026-01-05T10:11:12.345678901Z",)"
      R"("mono_ns":5000000012345,"seq":17,"guard":{"id":"g12","name":"nightly","scope":"tree",)"
      R"("mode":"enforce","owner_uid":1000},"target":{"pid":4242},"trigger":{"resource":"memory",)"
      R"("limit":67108864,"observed":67112960,"unit":"bytes","over_since_ns":4999000000000},)"
      R"("step":{"index":1,"action":"signal","signal":"SIGTERM","due_ns":5000000000000,)"
      R"("late_ns":12345,"by":"controller","result":"refused","errno":1,"reached":2,)"
      R"("reached_pids":[11,12],"refused":1,"refused_pids":[13]}})");
}

TEST(EventJson, WhatDoesNotApplyIsNotThere) {
  const json released = json::parse(event_json(event_of(PG_EVENT_RELEASED))[0]);
  EXPECT_FALSE(released.contains("trigger"));
  EXPECT_FALSE(released.contains("step"));
  const json armed = json::parse(event_json(event_of(PG_EVENT_ARMED, PG_TIMEOUT))[0]);
  EXPECT_EQ(armed.at("trigger").at("unit"), "ns");
  EXPECT_FALSE(armed.contains("step"));
  EventBody exception = step_event(1, 1, PG_RESULT_SENT);
  exception.event.action = PG_ACTION_EXCEPTION;
  EXPECT_EQ(json::parse(event_json(exception)[0]).at("step").at("signal"), nullptr);
  EventBody nobody = event_of(PG_EVENT_ARMED, PG_TIMEOUT);
  nobody.event.pid = 0;
  EXPECT_EQ(json::parse(event_json(nobody)[0]).at("target").at("pid"), nullptr);
}

TEST(EventJson, AboutNoGuard) {
  EventBody gap = event_of(PG_EVENT_AGENT_GAP);
  gap.event.guard = 0;
  const json told = json::parse(event_json(gap)[0]);
  EXPECT_EQ(told.at("from_ns"), gap.event.due_ns);
  EXPECT_EQ(told.at("to_ns"), gap.event.at_ns);
  EXPECT_FALSE(told.contains("guard"));
  EventBody lost = event_of(PG_EVENT_LOST);
  lost.event.guard = 0;
  lost.event.observed = 5;
  EXPECT_EQ(json::parse(event_json(lost)[0]).at("count"), 5);
}

TEST(EventJson, HostileBytes) {
  EventBody noise;
  std::memset(static_cast<void*>(&noise), 0xff, sizeof(noise));
  for (std::uint32_t kind = 0; kind <= PG_EVENT_LOST + 1; ++kind) {
    noise.event.kind = kind;
    for (const std::string& text : event_json(noise)) {
      EXPECT_TRUE(json::accept(text)) << text;
      EXPECT_EQ(text.find('\n'), std::string::npos);
    }
    EXPECT_EQ(event_line(noise).find('\n'), std::string::npos);
  }
  EventBody named = step_event(1, 1, PG_RESULT_SENT);
  put_text(named.event.name, "a\"\n\xff");
  EXPECT_EQ(json::parse(event_json(named)[0]).at("guard").at("name"), "a\"\\x0a\\xff");
}

TEST(EventLine, TimeGuardWhat) {
  ::setenv("TZ", "UTC-2", 1);  // POSIX: two hours east
  ::tzset();
  EXPECT_EQ(event_line(step_event(1, 1, PG_RESULT_SENT)),
            "2026-01-05 12:11:12.345 guard g12 'nightly' step 1: SIGTERM, sent; memory limit "
            "64.0MiB, observed 64.0MiB");
  ::unsetenv("TZ");
  ::tzset();
}

}  // namespace
}  // namespace procguard::proto
