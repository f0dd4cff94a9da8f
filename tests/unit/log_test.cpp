// SPDX-License-Identifier: Apache-2.0
// The log's thread: order, losses, a reader that does not read.
#include "agent/log.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "sys/fd.h"
#include "tests/support/processes.h"

namespace procguard::agent {
namespace {

using Lines = std::vector<std::string>;

class AgentLog : public ::testing::Test {
 protected:
  void SetUp() override {
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    in_.reset(ends[1]);
    out_.reset(ends[0]);
  }
  std::unique_ptr<Log> open(Log::Options options = {}) const {
    options.fd = in_.get();
    auto log = Log::open(options);
    EXPECT_TRUE(log) << log.error().message();
    return log ? std::move(log).value() : nullptr;
  }
  // Reads until `enough` is true of what was read so far; false: that did not come.
  bool read_until(const std::function<bool(const std::string&)>& enough) {
    EXPECT_EQ(::fcntl(out_.get(), F_SETFL, O_NONBLOCK), 0);
    return test::wait_until(
        [&] {
          std::array<char, 65536> piece{};
          const ssize_t got = ::read(out_.get(), piece.data(), piece.size());
          text_.append(piece.data(), got > 0 ? static_cast<std::size_t>(got) : 0);
          return enough(text_);
        },
        std::chrono::seconds(60));
  }
  // The lines that are written by the time the log is gone.
  Lines lines() {
    EXPECT_TRUE(read_until([](const std::string& text) { return text.ends_with('\n'); }));
    Lines lines;
    for (std::string_view text = text_; !text.empty();) {
      const std::string_view line = text.substr(0, text.find('\n'));
      lines.emplace_back(line);
      text.remove_prefix(std::min(line.size() + 1, text.size()));
    }
    return lines;
  }

  sys::Fd in_;
  sys::Fd out_;
  std::string text_;
};

proto::EventBody event_of(std::uint64_t guard) {
  proto::EventBody body;
  body.event.kind = PG_EVENT_RELEASED;
  body.event.guard = guard;
  body.event.resource = PG_RESOURCES;
  return body;
}

// The sum of what lines say was lost.
std::uint64_t told(std::string_view text) {
  constexpr std::string_view kBefore = "log: ";
  std::uint64_t sum = 0;
  while ((text = text.substr(std::min(text.find(kBefore), text.size()))).size() > kBefore.size()) {
    text.remove_prefix(kBefore.size());
    sum += std::stoull(std::string(text.substr(0, 20)));
  }
  return sum;
}

std::uint64_t count(std::string_view text, std::string_view word) {
  std::uint64_t found = 0;
  for (std::size_t at = 0; (at = text.find(word, at)) != std::string_view::npos; ++at) {
    found++;
  }
  return found;
}

TEST_F(AgentLog, WritesInOrder) {
  auto log = open();
  log->note(Severity::kNotice, "ready");
  log->event(event_of(1));
  log->event(event_of(2));
  log->note(Severity::kError, "bad");
  log.reset();
  const Lines lines = this->lines();
  ASSERT_EQ(lines.size(), 4U);
  EXPECT_TRUE(lines[0].ends_with("Z notice ready")) << lines[0];
  EXPECT_TRUE(lines[1].ends_with("Z info guard g1 released")) << lines[1];
  EXPECT_TRUE(lines[2].ends_with("Z info guard g2 released")) << lines[2];
  EXPECT_TRUE(lines[3].ends_with("Z error bad")) << lines[3];
}

TEST_F(AgentLog, Json) {
  auto log = open({.format = LogFormat::kJson});
  log->event(event_of(1));
  log->note(Severity::kNotice, "ready");
  log.reset();
  const Lines lines = this->lines();
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(nlohmann::json::parse(lines[0])["event"], "guard.released");
  EXPECT_EQ(nlohmann::json::parse(lines[1])["event"], "agent.note");
}

TEST_F(AgentLog, WhatComesTooFastIsCountedAndSaidOnce) {
  auto log = open({.lines_per_second = 1, .burst = 10});
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 100; ++i) {
    log->event(event_of(1));
  }
  log->note(Severity::kNotice, "notes are not limited");
  const auto took = std::chrono::steady_clock::now() - begin;
  const std::uint64_t lost = log->lost();
  EXPECT_TRUE(read_until([&](const std::string& text) { return told(text) == lost; })) << text_;
  EXPECT_EQ(count(text_, " released\n"), 100 - lost);
  EXPECT_EQ(count(text_, "not limited\n"), 1U);
  if (took < std::chrono::milliseconds(900)) {
    EXPECT_EQ(lost, 90U);
    EXPECT_EQ(count(text_, " lines lost: "), 1U) << text_;
  }
}

// Also by the end of the log, which comes sooner.
TEST_F(AgentLog, LossesAreSaidAtTheEnd) {
  auto log = open({.lines_per_second = 1, .burst = 1});
  for (int i = 0; i < 20; ++i) {
    log->event(event_of(1));
  }
  const std::uint64_t lost = log->lost();
  EXPECT_GT(lost, 0U);
  log.reset();
  EXPECT_TRUE(read_until([&](const std::string& text) { return told(text) == lost; })) << text_;
}

TEST_F(AgentLog, AReaderThatDoesNotReadHoldsNobodyUp) {
  constexpr std::uint64_t kEvents = 50000;
  ASSERT_GT(::fcntl(in_.get(), F_SETPIPE_SZ, 4096), 0);
  auto log = open({.lines_per_second = 0, .queue = 1000});
  for (std::uint64_t i = 1; i <= kEvents; ++i) {
    log->event(event_of(i));  // would hang here: nobody reads yet
  }
  const std::uint64_t lost = log->lost();
  EXPECT_GT(lost, 0U);
  EXPECT_TRUE(read_until([&](const std::string& text) {
    return told(text) == lost && count(text, " released\n") == kEvents - lost;
  })) << told(text_);
}

TEST_F(AgentLog, TheEndWaitsForAReaderOnlySoLong) {
  ASSERT_GT(::fcntl(in_.get(), F_SETPIPE_SZ, 4096), 0);
  auto log = open();
  for (int i = 0; i < 1000; ++i) {
    log->note(Severity::kInfo, std::string(100, 'x'));
  }
  const auto begin = std::chrono::steady_clock::now();
  log.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
  out_.reset();  // what still writes gets EPIPE and ends
}

TEST_F(AgentLog, AReaderThatIsGoneIsNoSignal) {
  auto log = open();
  out_.reset();
  log->note(Severity::kInfo, "to nobody");
  EXPECT_TRUE(test::wait_until([&] { return log->lost() == 1; }));
}

TEST_F(AgentLog, ANonBlockingPipeIsWaitedFor) {
  ASSERT_EQ(::fcntl(in_.get(), F_SETFL, O_NONBLOCK), 0);
  ASSERT_GT(::fcntl(in_.get(), F_SETPIPE_SZ, 4096), 0);
  auto log = open();
  for (int i = 0; i < 1000; ++i) {
    log->note(Severity::kInfo, std::string(100, 'x'));
  }
  EXPECT_TRUE(read_until([](const std::string& text) { return count(text, "xx\n") == 1000; }));
}

TEST(AgentLogOpen, WhatCannotBeOpened) {
  const auto bad = Log::open({.fd = -1});
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().code(), EBADF);
  if (::access("/run/systemd/journal/socket", W_OK) != 0) {
    const auto none = Log::open({.format = LogFormat::kJournal});
    ASSERT_FALSE(none);
    EXPECT_NE(none.error().message().find("journal"), std::string::npos);
  }
}

}  // namespace
}  // namespace procguard::agent
