// SPDX-License-Identifier: Apache-2.0
#include "agent/log_text.h"

#include <gtest/gtest.h>

#include <csignal>
#include <nlohmann/json.hpp>
#include <string>

#include "agent/token_bucket.h"
#include "proto/codec.h"

namespace procguard::agent {
namespace {

using core::kSecond;

// 2026-01-05T10:11:12.345678901Z
constexpr std::uint64_t kReal = 1767607872345678901;

proto::EventBody tripped() {
  proto::EventBody body;
  body.seq = 7;
  body.real_ns = kReal;
  body.scope = PG_SCOPE_TREE;
  body.owner_uid = 1000;
  body.reached = 3;
  body.refused = 1;
  pg_event& event = body.event;
  event.kind = PG_EVENT_STEP;
  event.guard = 12;
  event.resource = PG_MEMORY;
  event.limit = 64 << 20;
  event.observed = 65 << 20;
  event.pid = 4242;
  event.action = PG_ACTION_SIGNAL;
  event.signal = SIGTERM;
  event.by = PG_BY_KERNEL;
  event.result = PG_RESULT_SENT;
  proto::put_text(event.name, "import\n\x1b");
  return body;
}

std::string joined(const JournalFields& fields) {
  std::string text;
  for (const auto& [name, value] : fields) {
    text += name + "=" + value + "|";
  }
  return text;
}

TEST(LogText, Events) {
  EXPECT_EQ(
      text_line(tripped()),
      "2026-01-05T10:11:12.345Z warning guard g12 'import\?\?' step 0: SIGTERM by the kernel, "
      "sent; memory limit 64.0MiB, observed 65.0MiB");
}

TEST(LogText, Notes) {
  EXPECT_EQ(text_line(Note{Severity::kNotice, kReal, "ready"}),
            "2026-01-05T10:11:12.345Z notice ready");
  EXPECT_EQ(text_line(Note{Severity::kError, 0, "a\nb\x1b\xff"}),
            "1970-01-01T00:00:00.000Z error a?b??");
}

TEST(LogText, NotesAsJson) {
  const auto object =
      nlohmann::json::parse(json_line({Severity::kInfo, kReal, "a \"b\"\n\xff \xc3\xa9"}));
  EXPECT_EQ(object["schema"], 1);
  EXPECT_EQ(object["event"], "agent.note");
  EXPECT_EQ(object["time"], "2026-01-05T10:11:12.345678901Z");
  EXPECT_EQ(object["severity"], "info");
  EXPECT_EQ(object["text"], "a \"b\"\n\xef\xbf\xbd \xc3\xa9");
  EXPECT_EQ(json_line({Severity::kInfo, kReal, "\n"}).find('\n'), std::string::npos);
}

TEST(LogText, JournalFieldsOfAStep) {
  EXPECT_EQ(joined(journal_fields(tripped())),
            "MESSAGE=guard g12 'import\?\?' step 0: SIGTERM by the kernel, sent; memory limit "
            "64.0MiB, observed 65.0MiB|PRIORITY=4|SYSLOG_IDENTIFIER=procguard|"
            "PROCGUARD_EVENT=guard.tripped|PROCGUARD_EVENT=step.sent|PROCGUARD_SEQ=7|"
            "PROCGUARD_GUARD=g12|PROCGUARD_NAME=import\\x0a\\x1b|PROCGUARD_SCOPE=tree|"
            "PROCGUARD_OWNER_UID=1000|PROCGUARD_RESOURCE=memory|PROCGUARD_LIMIT=67108864|"
            "PROCGUARD_OBSERVED=68157440|PROCGUARD_PID=4242|PROCGUARD_STEP=0|"
            "PROCGUARD_SIGNAL=SIGTERM|PROCGUARD_BY=kernel|PROCGUARD_RESULT=sent|"
            "PROCGUARD_REACHED=3|PROCGUARD_REFUSED=1|");
}

TEST(LogText, JournalFieldsOfTheRest) {
  proto::EventBody body;
  body.event.kind = PG_EVENT_LOST;
  body.event.resource = PG_RESOURCES;
  body.event.observed = 5;
  EXPECT_EQ(joined(journal_fields(body)),
            "MESSAGE=5 events lost|PRIORITY=4|SYSLOG_IDENTIFIER=procguard|"
            "PROCGUARD_EVENT=events.lost|PROCGUARD_SEQ=0|");
  EXPECT_EQ(joined(journal_fields(Note{Severity::kError, kReal, "no"})),
            "MESSAGE=no|PRIORITY=3|SYSLOG_IDENTIFIER=procguard|PROCGUARD_EVENT=agent.note|");
}

TEST(LogText, Severities) {
  struct Row {
    std::uint32_t kind;
    std::uint32_t result;
    Severity severity;
  };
  const Row rows[] = {
      {PG_EVENT_ARMED, 0, Severity::kInfo},
      {PG_EVENT_OVER, 0, Severity::kNotice},
      {PG_EVENT_BACK_UNDER, 0, Severity::kInfo},
      {PG_EVENT_RELEASED, 0, Severity::kInfo},
      {PG_EVENT_DEGRADED, 0, Severity::kWarning},
      {PG_EVENT_AGENT_GAP, 0, Severity::kWarning},
      {PG_EVENT_LOST, 0, Severity::kWarning},
      {PG_EVENT_STEP, PG_RESULT_SENT, Severity::kWarning},
      {PG_EVENT_STEP, PG_RESULT_DRY_RUN, Severity::kWarning},
      {PG_EVENT_STEP, PG_RESULT_FAILED, Severity::kError},
      {PG_EVENT_STEP, PG_RESULT_REFUSED, Severity::kError},
      {PG_EVENT_STEP, PG_RESULT_UNKNOWN, Severity::kError},
      {99, 0, Severity::kInfo},
  };
  for (const Row& row : rows) {
    pg_event event{};
    event.kind = row.kind;
    event.result = row.result;
    EXPECT_EQ(severity_of(event), row.severity) << row.kind << ", " << row.result;
  }
}

TEST(TokenBucket, SoManyAtOnceSoManyASecond) {
  struct Row {
    const char* description;
    std::uint32_t per_second, burst;
    int at_once, a_second_later, an_hour_later;  // of 100 each
  };
  const Row rows[] = {
      {"a burst, then the average", 10, 30, 30, 10, 30},
      {"one by one", 1, 1, 1, 1, 1},
      {"no burst counts as one", 1, 0, 1, 1, 1},
      {"no limit", 0, 1, 100, 100, 100},
      {"faster than it can be counted", 4000000000, 1, 100, 100, 100},
      {"more at once than come", 1, 1000, 100, 100, 100},
  };
  for (const Row& row : rows) {
    TokenBucket bucket(row.per_second, row.burst);
    core::Ns now = 5 * kSecond;
    const auto taken = [&] {
      int count = 0;
      for (int i = 0; i < 100; ++i) {
        count += bucket.take(now) ? 1 : 0;
      }
      return count;
    };
    EXPECT_EQ(taken(), row.at_once) << row.description;
    now += kSecond;
    EXPECT_EQ(taken(), row.a_second_later) << row.description;
    now += 3600 * kSecond;
    EXPECT_EQ(taken(), row.an_hour_later) << row.description;
  }
}

}  // namespace
}  // namespace procguard::agent
