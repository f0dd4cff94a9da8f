// SPDX-License-Identifier: Apache-2.0
// An agent dies and comes back under guards that are entered; a forked child and an executed
// program are not its.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <thread>
#include <vector>

#include "tests/client/agent_program.h"
#include "tests/support/processes.h"

namespace procguard::test {
namespace {

class ClientAgentLoss : public AgentProgram {};

// --- it dies and comes back ---------------------------------------------------------------------

TEST_F(ClientAgentLoss, DiesWhileAGuardIsOverItsLimit) {
  for (const char* wanted : {"auto", "agent"}) {
    in_program(
        [this] {
          std::optional<SessionAgent> agent(std::in_place, socket());
          agent->look_away(true);
          const MemGuard guard = growth(kLimit);
          const Block block = guard.enter();
          Pages pages(kMore);
          pages.touch();
          REQUIRE_IN_CHILD(quiet_for(100ms));
          agent.reset();
          const Trip trip = wait_for<MemoryLimitExceeded>();
          REQUIRE_IN_CHILD(trip.guard == guard.id() && trip.step == 0);
          REQUIRE_IN_CHILD(source() != "agent");
          pages.give_back();
          REQUIRE_IN_CHILD(quiet_for(100ms));
          pages.touch();
          REQUIRE_IN_CHILD(wait_for<MemoryLimitExceeded>().step == 0);
        },
        wanted);
  }
}

// Grace goes on counting from the crossing, whoever told of it; time guards do not notice.
TEST_F(ClientAgentLoss, DiesDuringTheGrace) {
  in_program([this] {
    std::optional<SessionAgent> agent(std::in_place, socket());
    const MemGuard guard = growth(kLimit, 5s);
    const TimeGuard time = exceptions_after(100ms);
    const Block block = guard.enter();
    Pages pages(kMore);
    const auto begin = Clock::now();
    pages.touch();
    REQUIRE_IN_CHILD(wait_until([&] { return agent->threshold(1) != 0; }));
    REQUIRE_IN_CHILD(quiet_for(2500ms));
    const Block time_block = time.enter();
    agent.reset();
    REQUIRE_IN_CHILD(wait_for<ExecutionTimeout>().guard == time.id());
    REQUIRE_IN_CHILD(wait_for<MemoryLimitExceeded>().guard == guard.id());
    const auto passed = Clock::now() - begin;
    REQUIRE_IN_CHILD(passed >= 5s);
    REQUIRE_IN_CHILD(passed < 2500ms + 5s);  // from when the agent died
  });
}

TEST_F(ClientAgentLoss, IsGoneBackTo) {
  in_program([this] {
    std::optional<SessionAgent> agent(std::in_place, socket());
    const MemGuard guard = growth(kLimit);
    const Block block = guard.enter();
    for (int life = 0; life < 2; ++life) {
      REQUIRE_IN_CHILD(source() == "agent");
      agent.reset();
      REQUIRE_IN_CHILD(wait_until([] { return source() != "agent"; }));
      agent.emplace(socket());
      agent->look_away(true);
      REQUIRE_IN_CHILD(wait_until([] { return source() == "agent"; }));
      REQUIRE_IN_CHILD(wait_until([&] { return agent->threshold(0) > kLimit.count; }));
      REQUIRE_IN_CHILD(agent->sessions() == 1);
      // The guard that was entered all the time is on the page.
      REQUIRE_IN_CHILD(agent->page()->slot[0].state == proto::kSlotEntered);
      Pages pages(kMore);
      pages.touch();
      REQUIRE_IN_CHILD(quiet_for(200ms));
      agent->tell_level();
      REQUIRE_IN_CHILD(wait_for<MemoryLimitExceeded>().guard == guard.id());
      pages.give_back();
      agent->tell_level();
      REQUIRE_IN_CHILD(quiet_for(50ms));
    }
  });
}

// Where it was when the guard was entered: the environment is the program's, and not looked at
// while it runs on.
TEST_F(ClientAgentLoss, IsLookedForWhereItWas) {
  in_program([this] {
    std::optional<SessionAgent> agent(std::in_place, socket());
    const Block block = growth(kLimit).enter();
    ::setenv("PROCGUARD_SOCKET", "/nowhere", 1);
    agent.reset();
    REQUIRE_IN_CHILD(wait_until([] { return source() != "agent"; }));
    agent.emplace(socket());
    REQUIRE_IN_CHILD(wait_until([] { return source() == "agent"; }));
  });
}

// Threads enter, which reads the level, while what it is read from comes and goes.
TEST_F(ClientAgentLoss, ComesAndGoesUnderManyThreads) {
  in_program([this] {
    std::atomic<bool> stop{false};
    std::vector<std::thread> threads;
    std::optional<SessionAgent> agent(std::in_place, socket());
    const Block first = growth(64_GiB).enter();
    for (int i = 0; i < 3; ++i) {
      threads.emplace_back([&] {
        const MemGuard guard = growth(64_GiB);
        while (!stop) {
          const Block block = guard.enter();
        }
      });
    }
    for (int life = 0; life < 2; ++life) {
      agent.reset();
      REQUIRE_IN_CHILD(wait_until([] { return source() != "agent"; }, kPatience));
      agent.emplace(socket());
      REQUIRE_IN_CHILD(wait_until([] { return source() == "agent"; }, kPatience));
    }
    stop = true;
    for (std::thread& thread : threads) {
      thread.join();
    }
  });
}

// --- fork and exec ------------------------------------------------------------------------------

bool has_page() {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.find("memfd:procguard-session") != std::string::npos) {
      return true;
    }
  }
  return false;
}

// Open files whose name begins so, by number.
std::vector<int> files(const std::string& begin) {
  std::vector<int> found;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    const std::string what = std::filesystem::read_symlink(entry.path(), gone);
    if (!gone && what.rfind(begin, 0) == 0) {
      found.push_back(std::stoi(entry.path().filename()));
    }
  }
  return found;
}

// What the level is read from; also one of a parent.
std::vector<int> level_files() {
  std::vector<int> found;
  for (const int fd : files("/proc/")) {
    std::error_code gone;
    const std::filesystem::path link = "/proc/self/fd/" + std::to_string(fd);
    if (std::filesystem::read_symlink(link, gone).filename() == "statm") {
      found.push_back(fd);
    }
  }
  return found;
}

// The agent is the parent's.
TEST_F(ClientAgentLoss, IsNotTheForkedChilds) {
  SessionAgent agent(socket());
  in_program([&] {
    const MemGuard guard = growth(kLimit);
    const Block block = guard.enter();
    REQUIRE_IN_CHILD(source() == "agent");
    REQUIRE_IN_CHILD(has_page() && files("/memfd:procguard-session").size() == 1);
    REQUIRE_IN_CHILD(level_files().size() == 1);
    // A program of its own, without the agent: in_child() changes the variables first.
    const int status = in_child(
        [] {
          REQUIRE_IN_CHILD(!has_page() && files("/memfd:procguard-session").empty());
          REQUIRE_IN_CHILD(level_files().empty());
          const MemGuard own = growth(kLimit);
          const Block time_block = exceptions_after(1h).enter();
          const Block own_block = own.enter();
          REQUIRE_IN_CHILD(source() == "procfs");
          Pages pages(kMore);
          pages.touch();
          REQUIRE_IN_CHILD(wait_for<MemoryLimitExceeded>().guard == own.id());
        },
        {"PROCGUARD_SOURCE=procfs"});
    REQUIRE_IN_CHILD(status == 0);
    // The parent's session has not noticed.
    REQUIRE_IN_CHILD(source() == "agent");
    Block again = guard.enter();
    again.leave();
  });
  ASSERT_NE(agent.page(), nullptr);
  EXPECT_EQ(agent.sessions(), 1);
  EXPECT_EQ(agent.page()->header.used, 2U);  // by the parent; none by its child
}

TEST_F(ClientAgentLoss, IsTheExecutedProgramsNeither) {
  in_program([this] {
    const SessionAgent agent(socket());
    const Block block = growth(64_GiB).enter();
    // The agent has closed what it was sent.
    REQUIRE_IN_CHILD(wait_until([] { return files("/memfd:procguard-session").size() == 1; }));
    const auto memfds = files("/memfd:procguard-session");
    for (const int fd : memfds) {
      REQUIRE_IN_CHILD((::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    }
    REQUIRE_IN_CHILD(level_files().size() == 1);
    for (const int fd : level_files()) {
      REQUIRE_IN_CHILD((::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    }
    for (const int fd : files("socket:")) {
      REQUIRE_IN_CHILD(fd <= STDERR_FILENO || (::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    }
  });
}

}  // namespace
}  // namespace procguard::test
