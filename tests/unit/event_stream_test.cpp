// SPDX-License-Identifier: Apache-2.0
#include "cli/event_stream.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/support/rows.h"

namespace procguard::cli {
namespace {

using test::step_event;

std::vector<std::string> names(const std::string& text) {
  std::vector<std::string> names;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    names.push_back(nlohmann::json::parse(line).at("event"));
  }
  return names;
}

using Names = std::vector<std::string>;

EventsOptions json_options(const char* filter = nullptr) {
  EventsOptions options;
  options.json = true;
  if (filter != nullptr) {
    options.filter = EventFilter::parse(filter).value();
  }
  return options;
}

TEST(EventStream, AnObjectALine) {
  const EventsOptions options = json_options();
  EventStream stream(options, true);
  EXPECT_EQ(names(stream.text({step_event(3, 0, PG_RESULT_SENT)})),
            (Names{"guard.tripped", "step.sent"}));
  EXPECT_EQ(names(stream.text({step_event(4, 1, PG_RESULT_SENT)})), (Names{"step.sent"}));
  EXPECT_EQ(stream.text({}), "");
  EXPECT_TRUE(stream.printed());
}

TEST(EventStream, FilteredByKind) {
  const EventsOptions options = json_options("event=guard.tripped");
  EventStream stream(options, true);
  EXPECT_EQ(stream.text({step_event(3, 1, PG_RESULT_SENT)}), "");
  EXPECT_FALSE(stream.printed());
  EXPECT_EQ(names(stream.text({step_event(4, 0, PG_RESULT_SENT)})), (Names{"guard.tripped"}));
  EXPECT_TRUE(stream.printed());
}

TEST(EventStream, OneLineAnEventForPeople) {
  EventsOptions options;
  EventStream stream(options, true);
  const std::string text =
      stream.text({step_event(1, 0, PG_RESULT_SENT), step_event(2, 1, PG_RESULT_SENT)});
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2) << text;
}

TEST(EventStream, MissingNumbersAreLostEvents) {
  const EventsOptions options = json_options();
  EventStream stream(options, true);
  EXPECT_EQ(names(stream.text({step_event(5, 1, PG_RESULT_SENT)})), (Names{"step.sent"}));
  const std::string text = stream.text({step_event(9, 1, PG_RESULT_SENT)});
  EXPECT_EQ(names(text), (Names{"events.lost", "step.sent"}));
  EXPECT_EQ(nlohmann::json::parse(text.substr(0, text.find('\n'))).at("count"), 3);
  EventsOptions since = json_options();
  since.since.seq = 2;
  EventStream later(since, true);
  EXPECT_EQ(names(later.text({step_event(4, 1, PG_RESULT_SENT)})),
            (Names{"events.lost", "step.sent"}));
}

TEST(EventStream, WhoSeesNotAllMissesNothing) {
  const EventsOptions options = json_options();
  EventStream stream(options, false);
  EXPECT_EQ(names(stream.text({step_event(5, 1, PG_RESULT_SENT), step_event(9, 1, PG_RESULT_SENT),
                               step_event(UINT64_MAX, 1, PG_RESULT_SENT),
                               step_event(1, 1, PG_RESULT_SENT)}))
                .size(),
            4U);
}

}  // namespace
}  // namespace procguard::cli
