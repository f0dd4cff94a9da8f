// SPDX-License-Identifier: Apache-2.0
// The lines for people: their words, hostile names in them, and that nobody can make them block.
#include "cli/messages.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string>

#include "sys/fd.h"

namespace procguard::cli {
namespace {

constexpr std::uint64_t kMiB = 1U << 20;

pg_event first_step(pg_resource resource, std::uint64_t limit, std::uint64_t observed) {
  pg_event event{};
  event.kind = PG_EVENT_STEP;
  event.resource = resource;
  event.limit = limit;
  event.observed = observed;
  event.at_ns = 5'000'012'345;
  event.due_ns = 5'000'000'000;
  event.signal = SIGINT;
  event.by = PG_BY_CONTROLLER;
  event.result = PG_RESULT_SENT;
  return event;
}

const Named kLeak{.pid = 4242, .comm = "leak"};
constexpr core::Ns kCrossed = 5'000'000'000;

TEST(Messages, Trips) {
  pg_event memory = first_step(PG_MEMORY, 64 * kMiB, 64 * kMiB + kMiB / 10);
  memory.by = PG_BY_KERNEL;
  EXPECT_EQ(trip_text("g1", memory, kCrossed, kLeak),
            "g1: memory 64.1MiB over limit 64.0MiB in pid 4242 (leak): SIGINT sent by the kernel "
            "12us after the crossing");
  EXPECT_EQ(trip_text("job", first_step(PG_TIMEOUT, 300'000'000, 300'012'345), kCrossed, kLeak),
            "job: timeout of 300ms reached in pid 4242 (leak): SIGINT sent 12us after it was due");
  EXPECT_EQ(trip_text("g1", first_step(PG_CPU, 500'000'000, 501'000'000), kCrossed, kLeak),
            "g1: cpu 501ms over limit 500ms in pid 4242 (leak): SIGINT sent 12us after the "
            "crossing");
}

TEST(Messages, WhatBecameOfTheStep) {
  struct Row {
    pg_result result;
    int error;
    const char* end;
  };
  const Row rows[] = {
      {PG_RESULT_DRY_RUN, 0, "SIGINT not sent (dry run)"},
      {PG_RESULT_MERGED, 0, "SIGINT was sent for another limit just before"},
      {PG_RESULT_REFUSED, EPERM, "SIGINT refused: Operation not permitted"},
      {PG_RESULT_FAILED, EIO, "SIGINT failed: Input/output error"},
      {PG_RESULT_IGNORED, 0, "SIGINT not sent: a namespace's init without a handler ignores it"},
  };
  for (const Row& row : rows) {
    pg_event event = first_step(PG_TIMEOUT, 300'000'000, 300'012'345);
    event.result = row.result;
    event.error = static_cast<__u32>(row.error);
    EXPECT_EQ(trip_text("g1", event, kCrossed, kLeak),
              std::string("g1: timeout of 300ms reached in pid 4242 (leak): ") + row.end);
  }
}

TEST(Messages, HostileNamesAreEscaped) {
  const Named hostile{.pid = 1, .comm = "\x1b[2J\n)\xff"};
  const std::string text =
      trip_text("g1", first_step(PG_TIMEOUT, 300'000'000, 300'012'345), kCrossed, hostile);
  for (const char c : text) {
    EXPECT_TRUE(c >= ' ' && c <= '~') << static_cast<int>(c);
  }
}

TEST(Messages, AboveRam) {
  EXPECT_EQ(above_ram_text("g1", 1ULL << 40, 16ULL << 30),
            "g1: memory limit 1.0TiB is above the 16.0GiB of RAM of this machine");
}

TEST(Messages, QuietLeavesErrors) {
  int fds[2];
  ASSERT_EQ(::pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
  sys::Fd read_end(fds[0]);
  sys::Fd write_end(fds[1]);
  {
    Messages messages(write_end.get());
    messages.note("one");
    messages.be_quiet();
    messages.note("two");
    messages.error("three");
  }
  char buffer[256];
  const ssize_t got = ::read(read_end.get(), buffer, sizeof(buffer));
  ASSERT_GT(got, 0);
  EXPECT_EQ(std::string(buffer, static_cast<std::size_t>(got)),
            "procguard: one\nprocguard: three\n");
}

// The pipe is full and blocking: whoever wrote to it would stand still, and with it the ladder.
TEST(Messages, AFullPipeHoldsNobodyUp) {
  int fds[2];
  ASSERT_EQ(::pipe2(fds, O_CLOEXEC), 0);
  sys::Fd read_end(fds[0]);
  sys::Fd write_end(fds[1]);
  const int size = ::fcntl(write_end.get(), F_SETPIPE_SZ, 8192);
  ASSERT_GT(size, 0);
  const std::string filling(static_cast<std::size_t>(size), 'x');
  ASSERT_EQ(::write(write_end.get(), filling.data(), filling.size()), size);

  Messages messages(write_end.get());
  messages.note("waits");  // returns
  std::string drained(filling.size(), '\0');
  ASSERT_EQ(::read(read_end.get(), drained.data(), drained.size()), size);
  messages.note("follows");
  char buffer[256];
  const ssize_t got = ::read(read_end.get(), buffer, sizeof(buffer));
  ASSERT_GT(got, 0);
  EXPECT_EQ(std::string(buffer, static_cast<std::size_t>(got)),
            "procguard: waits\nprocguard: follows\n");
}

}  // namespace
}  // namespace procguard::cli
