// SPDX-License-Identifier: Apache-2.0
// What `procguard list` prints, for people and for programs.
#include "cli/list_text.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/guard_json.h"
#include "cli/guard_view.h"
#include "tests/support/rows.h"

namespace procguard::cli {
namespace {

using test::kRowNow;
using test::row_of;

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    lines.push_back(line);
  }
  return lines;
}

TEST(ListText, ALineForEachLimit) {
  EXPECT_EQ(list_table({row_of(12)}),
            "GUARD NAME    TARGET         RESOURCE    USED   LIMIT LEFT STEP\n"
            "g12   nightly tree 4242 make timeout    500ms      2s 1.5s 0/3\n"
            "g12   nightly tree 4242 make memory   12.0MiB 64.0MiB    - 0/3\n");
}

TEST(ListText, WithoutGuardsThereIsAHead) {
  EXPECT_EQ(list_table({}), "GUARD NAME TARGET RESOURCE USED LIMIT LEFT STEP\n");
}

TEST(ListText, WhereOnTheLadder) {
  struct Row {
    const char* step;
    void (*change)(pg_guard& guard);
  };
  const Row rows[] = {
      {"0/3", [](pg_guard&) {}},
      {"over", [](pg_guard& guard) { guard.limit[PG_TIMEOUT].phase = PG_LIMIT_OVER; }},
      {"1/3",
       [](pg_guard& guard) {
         guard.limit[PG_TIMEOUT].phase = PG_LIMIT_TRIPPED;
         guard.limit[PG_TIMEOUT].next_step = 1;
       }},
      {"3/3 done",
       [](pg_guard& guard) {
         guard.limit[PG_TIMEOUT].phase = PG_LIMIT_DONE;
         guard.limit[PG_TIMEOUT].next_step = 3;
       }},
      {"paused", [](pg_guard& guard) { guard.paused_ns = kRowNow; }},
      {"held", [](pg_guard& guard) { guard.phase = 0; }},
      {"released", [](pg_guard& guard) { guard.phase = PG_GUARD_RELEASED; }},
      {"ended", [](pg_guard& guard) { guard.phase = PG_GUARD_ENDED; }},
      {"8/8", [](pg_guard& guard) { guard.steps = guard.limit[PG_TIMEOUT].next_step = 4'000'000; }},
  };
  for (const Row& row : rows) {
    proto::RowBody body = row_of(1);
    row.change(body.guard);
    EXPECT_EQ(ladder_text(body.guard, body.guard.limit[PG_TIMEOUT]), row.step);
  }
}

TEST(ListText, UsedAndLeft) {
  proto::RowBody row = row_of(1);
  pg_guard& guard = row.guard;
  EXPECT_EQ(limit_views(row)[0].used, 500 * core::kMillisecond);
  EXPECT_EQ(limit_views(row)[0].left, 1500 * core::kMillisecond);
  EXPECT_EQ(limit_views(row)[1].left, std::nullopt);
  guard.limit[PG_TIMEOUT].due_ns = 0;
  EXPECT_EQ(limit_views(row)[0].left, 1500 * core::kMillisecond) << "from base and limit";
  guard.limit[PG_TIMEOUT].phase = PG_LIMIT_DONE;
  EXPECT_EQ(limit_views(row)[0].left, std::nullopt);
  guard.limit[PG_TIMEOUT].phase = PG_LIMIT_WAITING;
  guard.paused_ns = kRowNow - 100 * core::kMillisecond;
  EXPECT_EQ(limit_views(row)[0].used, 400 * core::kMillisecond) << "its clock stands still";
  guard.paused_ns = 0;
  guard.ended_ns = kRowNow - 200 * core::kMillisecond;
  guard.phase = PG_GUARD_ENDED;
  EXPECT_EQ(limit_views(row)[0].used, 300 * core::kMillisecond);
  EXPECT_EQ(limit_views(row)[0].left, std::nullopt);
  const auto add = [&](pg_resource resource, std::uint64_t limit, std::uint64_t base) {
    guard.limit[resource].limit = limit;
    guard.limit[resource].base = base;
    guard.limit[resource].phase = PG_LIMIT_WAITING;
  };
  add(PG_CPU, core::kSecond, 50 * core::kMillisecond);
  add(PG_MEMORY_GROWTH, 1U << 20, 20U << 20);
  EXPECT_EQ(limit_views(row)[1].used, 200 * core::kMillisecond);
  EXPECT_EQ(limit_views(row)[3].used, 0U) << "below what it was at entry";
}

TEST(ListText, ShortTimes) {
  struct Row {
    core::Ns ns;
    const char* text;
  };
  constexpr core::Ns kMinute = 60 * core::kSecond;
  const Row rows[] = {
      {0, "0us"},
      {999'999, "999us"},
      {core::kMillisecond, "1ms"},
      {core::kSecond - 1, "999ms"},
      {core::kSecond, "1s"},
      {12'345 * core::kMillisecond, "12.3s"},
      {kMinute - 1, "59.9s"},
      {kMinute, "1m"},
      {125 * core::kSecond, "2m5s"},
      {3600 * core::kSecond - 1, "59m59s"},
      {61 * kMinute, "1h1m"},
      {24 * 60 * kMinute - 1, "23h59m"},
      {25 * 60 * kMinute, "1d1h"},
      {100 * 24 * 60 * kMinute, "100d"},
      {INT64_MAX - 1ULL, "106751d"},
      {INT64_MAX, "inf"},
      {UINT64_MAX, "inf"},
  };
  for (const Row& row : rows) {
    EXPECT_EQ(format_short(row.ns), row.text);
    EXPECT_LE(format_short(row.ns).size(), 7U);
  }
}

// All that can be long is as long as it gets.
proto::RowBody widest() {
  proto::RowBody row = row_of(UINT64_MAX, std::string(PG_NAME_LEN - 1, 'n'), "a-long-command-");
  row.guard.pid = UINT32_MAX;
  row.guard.limit[PG_MEMORY_GROWTH] = row.guard.limit[PG_MEMORY];
  row.guard.limit[PG_MEMORY_GROWTH].limit = 1023ULL << 30;
  row.guard.limit[PG_TIMEOUT].limit = INT64_MAX - 1ULL;
  row.guard.limit[PG_TIMEOUT].due_ns = INT64_MAX - 1ULL;
  row.guard.limit[PG_TIMEOUT].phase = PG_LIMIT_DONE;
  row.guard.limit[PG_TIMEOUT].next_step = 3;
  row.memory_bytes = 1023ULL << 30;
  return row;
}

TEST(ListText, TheTableFitsEightyColumns) {
  proto::RowBody released = widest();
  released.guard.phase = PG_GUARD_RELEASED;
  proto::RowBody waiting = widest();
  waiting.guard.limit[PG_TIMEOUT].phase = PG_LIMIT_WAITING;
  const std::string table = list_table({row_of(1), widest(), released, waiting});
  for (const std::string& line : lines_of(table)) {
    EXPECT_LE(line.size(), 80U) << line;
  }
  EXPECT_NE(table.find(" nn~ "), std::string::npos) << table;
  const std::string wide = list_wide({widest()});
  EXPECT_NE(wide.find(std::string(PG_NAME_LEN - 1, 'n')), std::string::npos) << "nothing is cut";
}

TEST(ListText, HostileRowsStayInTheirLines) {
  proto::RowBody hostile = row_of(1, "a\nb\x1b[2J", "\xff\n\"\\");
  proto::RowBody noise;
  std::memset(static_cast<void*>(&noise), 0xff, sizeof(noise));
  const proto::RowBody nothing;
  for (const std::string& text :
       {list_table({hostile, noise, nothing}), list_wide({hostile, noise, nothing})}) {
    EXPECT_EQ(lines_of(text).size(), 1U + 2 + 4 + 1) << text;
    EXPECT_TRUE(std::all_of(text.begin(), text.end(), [](char c) {
      return c == '\n' || (c >= ' ' && c <= '~');
    })) << text;
  }
  const auto json = nlohmann::json::parse(list_json({hostile, noise, nothing}));
  EXPECT_EQ(json.at("guards").at(0).at("name"), "a\\x0ab\\x1b[2J");
  EXPECT_EQ(json.at("guards").at(0).at("target").at("comm"), "\\xff\\x0a\"\\\\");
}

TEST(ListText, Json) {
  const std::string text = list_json({row_of(12)});
  EXPECT_EQ(text.find('\n'), text.size() - 1) << "one line";
  const auto json = nlohmann::json::parse(text);
  EXPECT_EQ(json.at("schema"), 1);
  const auto& guard = json.at("guards").at(0);
  EXPECT_EQ(guard.at("id"), "g12");
  EXPECT_EQ(guard.at("scope"), "tree");
  EXPECT_EQ(guard.at("mode"), "enforce");
  EXPECT_EQ(guard.at("phase"), "armed");
  EXPECT_EQ(guard.at("target").at("pid"), 4242);
  EXPECT_EQ(guard.at("target").at("processes"), 3);
  EXPECT_EQ(guard.at("target").at("cgroup_id"), nullptr);
  EXPECT_EQ(guard.at("ladder").at(2).at("signal"), "SIGKILL");
  EXPECT_EQ(guard.at("last_step"), nullptr);
  const auto& timeout = guard.at("limits").at(0);
  EXPECT_EQ(timeout.at("resource"), "timeout");
  EXPECT_EQ(timeout.at("unit"), "ns");
  EXPECT_EQ(timeout.at("limit"), 2'000'000'000U);
  EXPECT_EQ(timeout.at("used"), 500'000'000U);
  EXPECT_EQ(timeout.at("left_ns"), 1'500'000'000U);
  EXPECT_EQ(guard.at("limits").at(1).at("unit"), "bytes");
  EXPECT_EQ(nlohmann::json::parse(list_json({})).at("guards").size(), 0U);
}

}  // namespace
}  // namespace procguard::cli
