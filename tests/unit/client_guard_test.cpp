// SPDX-License-Identifier: Apache-2.0
// The options of in-process guards: what is refused and why, what is made of the rest, and callers
// that know another procguard_options than this library.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>

#include "client/guard.h"
#include "core/ladder.h"
#include "tests/support/patrol_driver.h"

namespace procguard::client {
namespace {

using test::guard_of;
using test::GuardPtr;

constexpr core::Ns kYear = 366ULL * 24 * 3600 * core::kSecond;

procguard_options good() {
  procguard_options options{};
  options.size = sizeof(options);
  options.limit = core::kSecond;
  return options;
}

TEST(ClientGuard, BadOptionsAreRefusedByName) {
  const struct {
    const char* name;
    void (*spoil)(procguard_options&);
    const char* message;
  } rows[] = {
      {"a resource that blocks do not have", [](auto& o) { o.resource = 1; },
       "resource: 1 is none of timeout, memory, memory_growth"},
      {"no resource", [](auto& o) { o.resource = 4; },
       "resource: 4 is none of timeout, memory, memory_growth"},
      {"interrupt_type", [](auto& o) { o.interrupt_type = 3; },
       "interrupt_type: 3 is none of exception, signal, exception_then_signal"},
      {"timeout", [](auto& o) { o.limit = 101 * kYear; }, "timeout: longer than 100 years"},
      {"timeout, all bits", [](auto& o) { o.limit = UINT64_MAX; },
       "timeout: longer than 100 years"},
      {"max_memory",
       [](auto& o) {
         o.resource = PROCGUARD_MEMORY;
         o.limit = (1ULL << 62) + 1;
       },
       "max_memory: more than 4 EiB"},
      {"max_memory, growth",
       [](auto& o) {
         o.resource = PROCGUARD_MEMORY_GROWTH;
         o.limit = UINT64_MAX;
       },
       "max_memory: more than 4 EiB"},
      {"grace_period", [](auto& o) { o.grace_ns = 101 * kYear; },
       "grace_period: longer than 100 years"},
      {"step grace", [](auto& o) { o.step_grace_ns = 101 * kYear; },
       "step grace period: longer than 100 years"},
      {"check_interval", [](auto& o) { o.check_interval_ns = 101 * kYear; },
       "check_interval: longer than 100 years"},
      {"name", [](auto& o) { o.name = "a name of forty-eight bytes is one byte too long"; },
       "guard name 'a name of forty-eight bytes is one byte too long': longer than 47 bytes"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.name);
    procguard_options options = good();
    row.spoil(options);
    const auto made = make_guard(options);
    ASSERT_FALSE(made.ok());
    EXPECT_EQ(made.error().message(), row.message);
    // The same through the ABI; a short buffer gets the beginning.
    char error[100] = "";
    EXPECT_EQ(procguard_guard_new(&options, error, sizeof(error)), nullptr);
    EXPECT_EQ(std::string(error), std::string(row.message).substr(0, sizeof(error) - 1));
    char little[6] = "";
    EXPECT_EQ(procguard_guard_new(&options, little, sizeof(little)), nullptr);
    EXPECT_EQ(std::string(little), std::string(row.message).substr(0, 5));
    EXPECT_EQ(procguard_guard_new(&options, nullptr, 0), nullptr);
  }
}

TEST(ClientGuard, TheLargestValuesAreTaken) {
  procguard_options options = good();
  options.limit = 100 * kYear;
  options.grace_ns = 100 * kYear;
  options.step_grace_ns = 100 * kYear;
  options.check_interval_ns = 100 * kYear;
  options.name = "a name of forty-seven bytes is the longest name";
  const GuardPtr made = guard_of(options);
  EXPECT_EQ(made->limit, 100 * kYear);
  EXPECT_STREQ(made->begin.name, options.name);
  options.resource = PROCGUARD_MEMORY;
  options.limit = 1ULL << 62;
  EXPECT_EQ(guard_of(options)->limit, 1ULL << 62);
}

TEST(ClientGuard, WhatIsNotGivenIsTheDefault) {
  const GuardPtr timeout = guard_of(good());
  EXPECT_EQ(timeout->begin.limit[PG_TIMEOUT].step_grace_ns, core::kDefaultStepGraceTime);
  EXPECT_EQ(timeout->check_interval, 500 * core::kMillisecond);
  EXPECT_EQ(timeout->deliver, nullptr);
  EXPECT_FALSE(timeout->pull);
  EXPECT_FALSE(timeout->break_syscalls);
  procguard_options options = good();
  options.resource = PROCGUARD_MEMORY_GROWTH;
  options.flags = PROCGUARD_PULL | PROCGUARD_BREAK_SYSCALLS;
  const GuardPtr memory = guard_of(options);
  EXPECT_EQ(memory->begin.limit[PG_MEMORY_GROWTH].step_grace_ns, core::kDefaultStepGraceMemory);
  EXPECT_EQ(memory->begin.limit[PG_MEMORY_GROWTH].grace_ns, 0U);
  EXPECT_EQ(memory->begin.limit[PG_TIMEOUT].phase, static_cast<unsigned>(PG_LIMIT_NONE));
  EXPECT_TRUE(memory->pull);
  EXPECT_TRUE(memory->break_syscalls);
}

TEST(ClientGuard, EachGuardHasAnIdOfItsOwn) {
  const GuardPtr one = guard_of(good());
  const GuardPtr two = guard_of(good());
  EXPECT_NE(one->id, 0U);
  EXPECT_NE(one->id, two->id);
  EXPECT_EQ(procguard_guard_id(one.get()), one->id);
}

// A program compiled against an older header hands over a shorter struct; what lies behind it is
// none of the library's business.
TEST(ClientGuard, AnOlderProgramsShorterOptionsWork) {
  for (const std::size_t size :
       {offsetof(procguard_options, grace_ns), offsetof(procguard_options, check_interval_ns),
        offsetof(procguard_options, name), offsetof(procguard_options, deliver)}) {
    SCOPED_TRACE(size);
    procguard_options options;
    std::memset(&options, 0xff, sizeof(options));  // all of it is wrong
    options.resource = PROCGUARD_TIMEOUT;
    options.interrupt_type = PROCGUARD_SIGNAL;
    options.send_kill = 1;
    options.flags = 0;
    options.limit = 5;
    if (size > offsetof(procguard_options, grace_ns)) {
      options.grace_ns = 0;
      options.step_grace_ns = 20 * core::kMillisecond;
    }
    if (size > offsetof(procguard_options, check_interval_ns)) {
      options.check_interval_ns = 7;
    }
    if (size > offsetof(procguard_options, name)) {
      options.name = "older";
    }
    options.size = size;
    const auto made = make_guard(options);
    ASSERT_TRUE(made.ok()) << made.error().message();
    const GuardPtr guard(made.value());
    EXPECT_EQ(guard->limit, 5U);
    EXPECT_EQ(guard->begin.limit[PG_TIMEOUT].step_grace_ns,
              size > offsetof(procguard_options, grace_ns) ? 20 * core::kMillisecond
                                                           : core::kDefaultStepGraceTime);
    EXPECT_EQ(guard->check_interval,
              size > offsetof(procguard_options, check_interval_ns) ? 7 : 500 * core::kMillisecond);
    EXPECT_EQ(guard->deliver, nullptr);
  }
}

TEST(ClientGuard, ANewerProgramsLongerOptionsWork) {
  struct {
    procguard_options known = good();
    std::uint64_t newer = 0;
  } longer;
  longer.known.size = sizeof(longer);
  const auto made = make_guard(longer.known);
  ASSERT_TRUE(made.ok()) << made.error().message();
  const GuardPtr guard(made.value());
  EXPECT_EQ(guard->limit, core::kSecond);
}

TEST(ClientGuard, OptionsThatAreTooShortAreRefused) {
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{8}, offsetof(procguard_options, grace_ns) - 1}) {
    procguard_options options = good();
    options.size = size;
    const auto made = make_guard(options);
    ASSERT_FALSE(made.ok());
    EXPECT_EQ(made.error().message(),
              "options.size: " + std::to_string(size) +
                  " is less than the options there were from the beginning");
  }
}

TEST(ClientGuard, EntriesHoldTheirGuard) {
  test::PatrolDriver driver;
  GuardPtr guard = guard_of(good());
  const Guard& seen = *guard;
  const procguard_entry entry = driver.enter(guard);
  EXPECT_EQ(seen.refs.load(), 2U);
  guard.reset();
  EXPECT_EQ(seen.refs.load(), 1U);
  driver.run_to(1000);
  EXPECT_EQ(driver.recorder.text, "0@1000");
  EXPECT_TRUE(test::PatrolDriver::leave(entry));  // the address sanitizer sees what becomes of it
}

}  // namespace
}  // namespace procguard::client
