// SPDX-License-Identifier: Apache-2.0
// Memory guards in programs that have run out of something: of descriptors, of sight of /proc.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <optional>

#include "tests/client/agent_program.h"
#include "tests/support/processes.h"

namespace procguard::test {
namespace {

class ClientStarved : public AgentProgram {};

// No file can be opened any more; those that are open stay so. Who polls does so with two.
void leave_no_descriptor() {
  rlimit limit{};
  REQUIRE_IN_CHILD(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
  limit.rlim_cur = 3;
  REQUIRE_IN_CHILD(::setrlimit(RLIMIT_NOFILE, &limit) == 0);
  REQUIRE_IN_CHILD(::dup(STDERR_FILENO) < 0 && errno == EMFILE);
}

// Crosses once more after having been under the limit: the ladder begins anew.
void require_trips(const MemGuard& guard, const std::function<void()>& tell) {
  Pages pages(kMore);
  for (int spike = 0; spike < 2; ++spike) {
    pages.touch();
    tell();
    const Trip trip = wait_for<MemoryLimitExceeded>();
    REQUIRE_IN_CHILD(trip.guard == guard.id() && trip.step == 0);
    REQUIRE_IN_CHILD(trip.observed > kLimit.count && trip.observed < 4 * kLimit.count);
    pages.give_back();
    tell();
    REQUIRE_IN_CHILD(quiet_for(50ms));
  }
}

TEST_F(ClientStarved, OfDescriptorsWithAnAgent) {
  in_program([this] {
    SessionAgent agent(socket());
    agent.look_away(true);
    const MemGuard guard = growth(kLimit);
    const Block block = guard.enter();
    REQUIRE_IN_CHILD(wait_until([&] { return agent.threshold(0) > kLimit.count; }));
    leave_no_descriptor();
    require_trips(guard, [&] { agent.tell_level(); });
    REQUIRE_IN_CHILD(source() == "agent");
  });
}

// By BPF where this process may have it.
TEST_F(ClientStarved, OfDescriptorsWithoutAnAgent) {
  for (const char* wanted : {"auto", "procfs"}) {
    in_program(
        [] {
          const MemGuard guard = growth(kLimit);
          const Block block = guard.enter();
          leave_no_descriptor();
          require_trips(guard, [] {});
        },
        wanted);
  }
}

// What it grows from is what there is.
TEST_F(ClientStarved, EntersWithoutADescriptor) {
  for (const char* wanted : {"auto", "procfs"}) {
    in_program(
        [] {
          Pages before(kMore);
          before.touch();
          const Block first = growth(64_GiB).enter();
          leave_no_descriptor();
          const MemGuard guard = growth(kLimit);
          const Block block = guard.enter();
          REQUIRE_IN_CHILD(quiet_for(50ms));
          require_trips(guard, [] {});
        },
        wanted);
  }
}

// Nothing else can be begun instead: the monitor looks by itself.
TEST_F(ClientStarved, LosesItsAgentToo) {
  in_program([this] {
    std::optional<SessionAgent> agent(std::in_place, socket());
    agent->look_away(true);
    const MemGuard guard = growth(kLimit);
    const Block block = guard.enter();
    REQUIRE_IN_CHILD(wait_until([&] { return agent->threshold(0) > kLimit.count; }));
    leave_no_descriptor();
    agent.reset();
    REQUIRE_IN_CHILD(wait_until([] { return source() != "agent"; }));
    require_trips(guard, [] {});
  });
}

TEST_F(ClientStarved, OutOfSightOfProc) {
  if (::geteuid() != 0) {
    GTEST_SKIP() << "needs root to change the root directory";
  }
  const TempTree empty;
  in_program([&] {
    SessionAgent agent(socket());
    agent.look_away(true);
    const MemGuard guard = growth(kLimit);
    const Block block = guard.enter();
    REQUIRE_IN_CHILD(wait_until([&] { return agent.threshold(0) > kLimit.count; }));
    REQUIRE_IN_CHILD(::chroot(empty.path().c_str()) == 0 && ::chdir("/") == 0);
    require_trips(guard, [&] { agent.tell_level(); });
  });
}

}  // namespace
}  // namespace procguard::test
