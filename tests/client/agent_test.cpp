// SPDX-License-Identifier: Apache-2.0
// An agent tells of crossings; and one that is not there, is not for us, or does not do its part.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <ostream>

#include "tests/client/agent_program.h"
#include "tests/support/processes.h"

namespace procguard::test {
namespace {

class ClientAgent : public AgentProgram {};

// --- crossings ----------------------------------------------------------------------------------

TEST_F(ClientAgent, IsTheSource) {
  for (const char* wanted : {"auto", "agent"}) {
    in_program(
        [this] {
          const SessionAgent agent(socket());
          REQUIRE_IN_CHILD(source() == "agent");  // it would be
          REQUIRE_IN_CHILD(agent.sessions() == 0);
          const MemGuard guard = growth(kLimit);
          const Block block = guard.enter();
          REQUIRE_IN_CHILD(source() == "agent");
          REQUIRE_IN_CHILD(agent.sessions() == 1);
          Pages pages(kMore);
          for (int spike = 0; spike < 2; ++spike) {
            REQUIRE_IN_CHILD(quiet_for(50ms));
            pages.touch();
            const Trip trip = wait_for<MemoryLimitExceeded>();
            REQUIRE_IN_CHILD(trip.guard == guard.id() && trip.step == 0);
            REQUIRE_IN_CHILD(trip.observed > kLimit.count && trip.observed < 4 * kLimit.count);
            pages.give_back();
          }
          REQUIRE_IN_CHILD(source() == "agent");
          REQUIRE_IN_CHILD(agent.sessions() == 1 && !agent.bad_page());
        },
        wanted);
  }
}

// Nobody else looks at the memory.
TEST_F(ClientAgent, ALevelItTellsIsACrossing) {
  in_program([this] {
    SessionAgent agent(socket());
    agent.look_away(true);
    const MemGuard guard = growth(kLimit);
    const Block block = guard.enter();
    REQUIRE_IN_CHILD(wait_until([&] { return agent.threshold(0) > kLimit.count; }));
    REQUIRE_IN_CHILD(agent.threshold(1) == 0);
    Pages pages(kMore);
    pages.touch();
    REQUIRE_IN_CHILD(quiet_for(300ms));
    agent.tell_level();
    REQUIRE_IN_CHILD(wait_for<MemoryLimitExceeded>().guard == guard.id());
    // One that it is over already is put in force on the other side.
    REQUIRE_IN_CHILD(wait_until([&] { return agent.threshold(1) > kLimit.count; }));
  });
}

// What it says is not what is so: nothing happens.
TEST_F(ClientAgent, ALevelThatIsNotTrue) {
  in_program([this] {
    SessionAgent agent(socket());
    agent.look_away(true);
    const Block block = growth(kLimit).enter();
    for (int i = 0; i < 20; ++i) {
      agent.tell_level();
      REQUIRE_IN_CHILD(quiet_for(10ms));
    }
    REQUIRE_IN_CHILD(source() == "agent");
  });
}

TEST_F(ClientAgent, NestedLimits) {
  in_program([this] {
    const SessionAgent agent(socket());
    const MemGuard outer = growth(192_MiB);
    const MemGuard inner = growth(kLimit);
    const Block outer_block = outer.enter();
    const Block inner_block = inner.enter();
    Pages pages(256_MiB);
    std::size_t touched = 0;
    for (const MemGuard* next : {&inner, &outer}) {
      REQUIRE_IN_CHILD(quiet_for(50ms));
      pages.touch(touched, touched + (120U << 20U));
      touched += 120U << 20U;
      REQUIRE_IN_CHILD(wait_for<MemoryLimitExceeded>().guard == next->id());
    }
    REQUIRE_IN_CHILD(source() == "agent");
  });
}

// --- there is none, or none for us --------------------------------------------------------------

TEST_F(ClientAgent, ForcedAndNotThere) {
  in_program(
      [] {
        for (int i = 0; i < 2; ++i) {
          int error = 0;
          try {
            const Block block = growth(64_GiB).enter();
          } catch (const std::system_error& failed) {
            error = failed.code().value();
          }
          REQUIRE_IN_CHILD(error == ENOSYS);
        }
        exceptions_after(1h)([] {})();
      },
      "agent");
}

TEST_F(ClientAgent, NotThere) {
  in_program([] {
    REQUIRE_IN_CHILD(source() != "agent");
    const MemGuard guard = growth(kLimit);
    const Block block = guard.enter();
    REQUIRE_IN_CHILD(source() != "agent");
    Pages pages(kMore);
    pages.touch();
    REQUIRE_IN_CHILD(wait_for<MemoryLimitExceeded>().guard == guard.id());
  });
}

// Where anybody may make the socket, one that is neither root's nor ours is no agent.
TEST_F(ClientAgent, AnotherUsersIsNone) {
  in_program([this] {
    const auto directory = std::filesystem::path(socket()).parent_path();
    REQUIRE_IN_CHILD(::chmod(directory.c_str(), 0777) == 0 && ::seteuid(65534) == 0);
    const SessionAgent agent(socket());
    REQUIRE_IN_CHILD(::seteuid(0) == 0);
    REQUIRE_IN_CHILD(source() != "agent");
    const Block block = growth(64_GiB).enter();
    REQUIRE_IN_CHILD(source() != "agent");
    REQUIRE_IN_CHILD(agent.sessions() == 0);
  });
}

TEST_F(ClientAgent, IsNotAskedByTimeGuards) {
  in_program([this] {
    const SessionAgent agent(socket());
    const TimeGuard guard = exceptions_after(10ms);
    const Block block = guard.enter();
    REQUIRE_IN_CHILD(wait_for<ExecutionTimeout>().guard == guard.id());
    REQUIRE_IN_CHILD(agent.sessions() == 0 && agent.page() == nullptr);
  });
}

TEST_F(ClientAgent, NorByWhoWantsAnotherSource) {
  in_program(
      [this] {
        const SessionAgent agent(socket());
        const Block block = growth(kLimit).enter();
        REQUIRE_IN_CHILD(source() == "procfs");
        REQUIRE_IN_CHILD(agent.sessions() == 0);
      },
      "procfs");
}

// --- hostile ------------------------------------------------------------------------------------

struct Hostile {
  const char* name;
  Manner manner;
};

void PrintTo(const Hostile& row, std::ostream* os) {
  *os << row.name;
}

class ClientHostileAgent : public ClientAgent, public ::testing::WithParamInterface<Hostile> {};

TEST_P(ClientHostileAgent, IsDoneWithout) {
  in_program([this] {
    const SessionAgent agent(socket(), GetParam().manner);
    const MemGuard guard = growth(kLimit);
    const TimeGuard time = exceptions_after(200ms);
    const Block block = guard.enter();
    {
      const Block meanwhile = time.enter();
      REQUIRE_IN_CHILD(wait_for<ExecutionTimeout>().guard == time.id());
    }
    REQUIRE_IN_CHILD(wait_until([] { return source() != "agent"; }));
    Pages pages(kMore);
    pages.touch();
    REQUIRE_IN_CHILD(wait_for<MemoryLimitExceeded>().guard == guard.id());
    REQUIRE_IN_CHILD(!agent.bad_page());
  });
}

INSTANTIATE_TEST_SUITE_P(Each, ClientHostileAgent,
                         ::testing::Values(Hostile{"Refuses", Manner::kRefuses},
                                           Hostile{"SaysNothing", Manner::kSaysNothing},
                                           Hostile{"HangsUp", Manner::kHangsUp},
                                           Hostile{"SessionWrongOp", Manner::kSessionWrongOp},
                                           Hostile{"SessionOtherRequest",
                                                   Manner::kSessionOtherRequest},
                                           Hostile{"SessionTwoBodies", Manner::kSessionTwoBodies},
                                           Hostile{"SessionUnasked", Manner::kSessionUnasked},
                                           Hostile{"LevelHangsUp", Manner::kLevelHangsUp},
                                           Hostile{"LevelSaysNothing", Manner::kLevelSaysNothing},
                                           Hostile{"LevelWrongOp", Manner::kLevelWrongOp},
                                           Hostile{"LevelIsError", Manner::kLevelIsError},
                                           Hostile{"LevelShortBody", Manner::kLevelShortBody},
                                           Hostile{"LevelTooLong", Manner::kLevelTooLong},
                                           Hostile{"LevelGarbage", Manner::kLevelGarbage},
                                           Hostile{"LevelEmptyRecord", Manner::kLevelEmptyRecord},
                                           Hostile{"LevelWithFd", Manner::kLevelWithFd}),
                         [](const auto& row) { return std::string(row.param.name); });

// Times in the future would never be due; the level is our own.
TEST_F(ClientAgent, AbsurdNumbers) {
  in_program([this] {
    const SessionAgent agent(socket(), Manner::kAbsurdNumbers);
    const MemGuard guard = growth(kLimit, 20ms);
    const Block block = guard.enter();
    REQUIRE_IN_CHILD(quiet_for(100ms));
    Pages pages(kMore);
    pages.touch();
    const Trip trip = wait_for<MemoryLimitExceeded>();
    REQUIRE_IN_CHILD(trip.guard == guard.id());
    REQUIRE_IN_CHILD(trip.observed < 4 * kLimit.count);
    REQUIRE_IN_CHILD(source() == "agent");
  });
}

}  // namespace
}  // namespace procguard::test
