// SPDX-License-Identifier: Apache-2.0
#include "core/ladder.h"

#include <gtest/gtest.h>

#include <csignal>

namespace procguard::core {
namespace {

TEST(Ladder, PresetsAreTheSpecifications) {
  struct Row {
    Preset preset;
    bool send_kill;
    const char* ladder;
  };
  const Row rows[] = {
      {Preset::kException, false, "exception,exception,exception"},
      {Preset::kException, true, "exception,exception,exception"},
      {Preset::kSignal, false, "INT,TERM,TERM"},
      {Preset::kSignal, true, "INT,TERM,KILL"},
      {Preset::kExceptionThenSignal, false, "exception,INT,TERM"},
      {Preset::kExceptionThenSignal, true, "exception,INT,KILL"},
  };
  for (const Row& row : rows) {
    EXPECT_EQ(format_ladder(preset_ladder(row.preset, row.send_kill)), row.ladder);
  }
}

TEST(Ladder, ParsesSignalsWithWaits) {
  auto ladder = parse_ladder("INT:5s,TERM:10s,KILL");
  ASSERT_TRUE(ladder.ok()) << ladder.error().message();
  ASSERT_EQ(ladder->size(), 3u);
  EXPECT_EQ(ladder.value()[0].signal, static_cast<unsigned>(SIGINT));
  EXPECT_EQ(ladder.value()[0].wait_ns, 5 * kSecond);
  EXPECT_EQ(ladder.value()[1].signal, static_cast<unsigned>(SIGTERM));
  EXPECT_EQ(ladder.value()[1].wait_ns, 10 * kSecond);
  EXPECT_EQ(ladder.value()[2].signal, static_cast<unsigned>(SIGKILL));
  EXPECT_EQ(ladder.value()[2].wait_ns, 0u);
  for (const pg_step& step : ladder.value()) {
    EXPECT_EQ(step.action, static_cast<unsigned>(PG_ACTION_SIGNAL));
  }
  EXPECT_EQ(format_ladder(ladder.value()), "INT:5s,TERM:10s,KILL");
}

TEST(Ladder, TakesNamesAsKillDoes) {
  auto ladder = parse_ladder("sigusr1:300ms,15,RTMIN+2:1.5m,KILL");
  ASSERT_TRUE(ladder.ok()) << ladder.error().message();
  EXPECT_EQ(format_ladder(ladder.value()), "USR1:300ms,TERM,RTMIN+2:1.5m,KILL");
}

TEST(Ladder, AWaitOfNothingIsTheShortestNotTheDefault) {
  auto ladder = parse_ladder("INT:0,KILL:1ms");
  ASSERT_TRUE(ladder.ok()) << ladder.error().message();
  EXPECT_EQ(ladder.value()[0].wait_ns, kMinStepGrace);
  EXPECT_EQ(ladder.value()[1].wait_ns, kMinStepGrace);
}

TEST(Ladder, RefusesWhatIsNoLadderAndSaysWhy) {
  struct Row {
    const char* text;
    const char* says;
  };
  const Row rows[] = {
      {"", "no signal"},
      {"INT,,KILL", "no signal"},
      {"INT,", "no signal"},
      {":5s", "no signal"},
      {"FOO", "step 'FOO': unknown signal"},
      {"INT,0", "step '0': unknown signal"},
      {"EXIT", "unknown signal"},
      {"99", "unknown signal"},
      {"INT:", "step 'INT:'"},
      {"INT:-1s", "step 'INT:-1s'"},
      {"INT:5parsecs,KILL", "5parsecs"},
      {"INT:5s:6s", "step 'INT:5s:6s'"},
      {" INT", "unknown signal"},
      {"INT,INT,INT,INT,INT,INT,INT,INT,INT", "more than 8 steps"},
  };
  for (const Row& row : rows) {
    auto ladder = parse_ladder(row.text);
    ASSERT_FALSE(ladder.ok()) << row.text;
    EXPECT_NE(ladder.error().message().find(row.says), std::string::npos)
        << "'" << row.text << "': " << ladder.error().message();
  }
  EXPECT_TRUE(parse_ladder("INT,INT,INT,INT,INT,INT,INT,INT").ok());
}

}  // namespace
}  // namespace procguard::core
