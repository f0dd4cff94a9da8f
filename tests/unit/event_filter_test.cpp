// SPDX-License-Identifier: Apache-2.0
#include "cli/event_filter.h"

#include <gtest/gtest.h>

#include <csignal>

#include "proto/codec.h"

namespace procguard::cli {
namespace {

proto::EventBody kill_step() {
  proto::EventBody body;
  body.scope = PG_SCOPE_TREE;
  body.event.kind = PG_EVENT_STEP;
  body.event.guard = 12;
  body.event.resource = PG_MEMORY;
  body.event.action = PG_ACTION_SIGNAL;
  body.event.signal = SIGKILL;
  body.event.result = PG_RESULT_REFUSED;
  proto::put_text(body.event.name, "nightly");
  return body;
}

TEST(EventFilter, OneTermAndMore) {
  struct Row {
    const char* text;
    bool wanted;
  };
  const Row rows[] = {
      {"event=guard.tripped", true},
      {"event=step.sent", false},
      {"guard=g12", true},
      {"guard=12", true},
      {"guard=13", false},
      {"name=nightly", true},
      {"name=night", false},
      {"name=", false},
      {"resource=memory", true},
      {"resource=memory_growth", false},
      {"scope=tree", true},
      {"scope=cgroup", false},
      {"result=refused", true},
      {"result=sent", false},
      {"signal=KILL", true},
      {"signal=sigkill", true},
      {"signal=9", true},
      {"signal=TERM", false},
      {"guard=12,resource=memory", true},
      {"guard=12,resource=cpu", false},
      {"resource=cpu,resource=memory", true},
      {"resource=cpu,resource=timeout", false},
      {"name=a=b", false},
  };
  for (const Row& row : rows) {
    const auto filter = EventFilter::parse(row.text);
    ASSERT_TRUE(filter) << row.text << ": " << filter.error().message();
    EXPECT_FALSE(filter->empty());
    EXPECT_EQ(filter->wants(kill_step(), "guard.tripped"), row.wanted) << row.text;
  }
}

TEST(EventFilter, NoneIsAll) {
  EXPECT_TRUE(EventFilter().wants(kill_step(), "step.failed"));
  EXPECT_TRUE(EventFilter().empty());
}

TEST(EventFilter, ResultsAndSignalsAreOfStepsAlone) {
  proto::EventBody over = kill_step();
  over.event.kind = PG_EVENT_OVER;
  EXPECT_FALSE(EventFilter::parse("result=refused")->wants(over, "guard.over"));
  EXPECT_FALSE(EventFilter::parse("signal=KILL")->wants(over, "guard.over"));
}

TEST(EventFilter, Mistakes) {
  struct Row {
    const char* text;
    const char* mentions;
  };
  const Row rows[] = {
      {"", "key=value"},
      {"guard", "key=value"},
      {"=x", "event, guard, name"},
      {"colour=red", "colour=red"},
      {"guard=12,", "key=value"},
      {",guard=12", "key=value"},
      {"Guard=12", "key=value"},
      {"event=tripped", "guard.tripped"},
      {"event=", "guard.armed"},
      {"guard=nightly", "name=nightly"},
      {"guard=0", "g1"},
      {"resource=disk", "memory_growth"},
      {"resource=none", "timeout"},
      {"scope=planet", "cgroup"},
      {"result=good", "dry_run"},
      {"signal=FOO", "FOO"},
      {"signal=0", "signal"},
      {"scope=\x1b[2J", "\\x1b[2J"},
  };
  for (const Row& row : rows) {
    const auto filter = EventFilter::parse(row.text);
    ASSERT_FALSE(filter) << row.text;
    EXPECT_NE(filter.error().message().find(row.mentions), std::string::npos)
        << row.text << " said: " << filter.error().message();
  }
}

}  // namespace
}  // namespace procguard::cli
