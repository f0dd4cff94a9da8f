// SPDX-License-Identifier: Apache-2.0
#include "core/event_text.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "core/clock.h"

namespace procguard::core {
namespace {

constexpr std::uint64_t kMiB = 1024 * 1024;

pg_event event(pg_event_kind kind, pg_resource resource, std::uint64_t limit,
               std::uint64_t observed, const char* name = "import") {
  pg_event made{};
  made.kind = kind;
  made.resource = resource;
  made.limit = limit;
  made.observed = observed;
  made.guard = 1;
  made.pid = 4242;
  made.at_ns = 1000 * kSecond;
  made.due_ns = made.at_ns;
  std::strncpy(made.name, name, sizeof(made.name) - 1);
  return made;
}

pg_event step(std::uint32_t index, int signal, pg_result result) {
  pg_event made = event(PG_EVENT_STEP, PG_TIMEOUT, 2 * kSecond, 2 * kSecond);
  made.step = index;
  made.action = PG_ACTION_SIGNAL;
  made.signal = static_cast<std::uint32_t>(signal);
  made.by = PG_BY_CONTROLLER;
  made.result = result;
  return made;
}

TEST(EventText, OneLineAnEvent) {
  EXPECT_EQ(event_text(event(PG_EVENT_ARMED, PG_MEMORY, 64 * kMiB, 0)),
            "guard g1 'import' armed on pid 4242: memory limit 64.0MiB");
  EXPECT_EQ(event_text(event(PG_EVENT_ARMED, PG_TIMEOUT, 300 * kMillisecond, 0)),
            "guard g1 'import' armed on pid 4242: timeout 300ms");
  pg_event over = event(PG_EVENT_OVER, PG_MEMORY, 64 * kMiB, 64 * kMiB + kMiB / 10);
  EXPECT_EQ(event_text(over),
            "guard g1 'import' over memory limit 64.0MiB: 64.1MiB, step 0 due now");
  over.due_ns += kSecond;
  EXPECT_EQ(event_text(over),
            "guard g1 'import' over memory limit 64.0MiB: 64.1MiB, step 0 due in 1s");
  EXPECT_EQ(event_text(event(PG_EVENT_BACK_UNDER, PG_MEMORY_GROWTH, 8 * kMiB, kMiB)),
            "guard g1 'import' back under memory_growth limit 8.0MiB: 1.0MiB");
  EXPECT_EQ(event_text(event(PG_EVENT_RELEASED, PG_TIMEOUT, 0, 0)), "guard g1 'import' released");
  EXPECT_EQ(event_text(event(PG_EVENT_TARGET_EXITED, PG_TIMEOUT, 0, 0)),
            "guard g1 'import' target exited");
  EXPECT_NE(event_text(event(PG_EVENT_DEGRADED, PG_TIMEOUT, 0, 0)).find("degraded"),
            std::string::npos);
}

TEST(EventText, StepsSayWhatBecameOfThem) {
  EXPECT_EQ(event_text(step(0, SIGINT, PG_RESULT_SENT)),
            "guard g1 'import' step 0: SIGINT, sent; timeout 2s, observed 2s");
  pg_event late = step(1, SIGTERM, PG_RESULT_REFUSED);
  late.error = EPERM;
  late.due_ns -= 20 * kMillisecond;
  EXPECT_EQ(event_text(late),
            "guard g1 'import' step 1: SIGTERM, refused (Operation not permitted); timeout 2s, "
            "observed 2s, late by 20ms");
  pg_event kernel = step(0, SIGINT, PG_RESULT_SENT);
  kernel.by = PG_BY_KERNEL;
  EXPECT_NE(event_text(kernel).find("SIGINT by the kernel, sent"), std::string::npos);
  pg_event exception = step(0, 0, PG_RESULT_MERGED);
  exception.action = PG_ACTION_EXCEPTION;
  EXPECT_NE(event_text(exception).find("exception, merged"), std::string::npos);
}

TEST(EventText, AGuardMayHaveNoNameAndNoPid) {
  pg_event armed = event(PG_EVENT_ARMED, PG_CPU, kSecond, 0, "");
  armed.pid = 0;
  EXPECT_EQ(event_text(armed), "guard g1 armed: cpu limit 1s");
}

TEST(EventText, HostileNamesAndNumbersStayOneLine) {
  pg_event hostile = event(PG_EVENT_RELEASED, PG_TIMEOUT, 0, 0, "a\nb\x1b[2J\xff\t");
  EXPECT_EQ(event_text(hostile),
            "guard g1 'a?b?[2J?"
            "?' released");
  std::memset(hostile.name, 'x', sizeof(hostile.name));  // no NUL
  hostile.kind = 999;
  hostile.resource = 999;
  EXPECT_EQ(event_text(hostile), "guard g1 '" + std::string(PG_NAME_LEN, 'x') + "' event 999");
  pg_event everything{};
  std::memset(&everything, 0xff, sizeof(everything));
  for (std::uint32_t kind = 0; kind < 10; ++kind) {
    everything.kind = kind;
    const std::string text = event_text(everything);
    EXPECT_LE(text.size(), kEventTextMax);
    EXPECT_EQ(text.find('\n'), std::string::npos);
  }
}

}  // namespace
}  // namespace procguard::core
