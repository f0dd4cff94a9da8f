// SPDX-License-Identifier: Apache-2.0
// Memory guards in programs that have run out of something: of descriptors, of sight of /proc, of
// somebody who reads what they write.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <optional>
#include <string>
#include <system_error>

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

// Standard error is a pipe without room, and whoever writes to it waits.
void fill_stderr() {
  int ends[2] = {-1, -1};
  REQUIRE_IN_CHILD(::pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
  const std::string text(4096, 'x');
  while (::write(ends[1], text.data(), text.size()) > 0) {
  }
  REQUIRE_IN_CHILD(::fcntl(ends[1], F_SETFL, 0) == 0 && ::dup2(ends[1], STDERR_FILENO) >= 0);
}

int error_of_entering(const MemGuard& guard) {
  try {
    const Block block = guard.enter();
    return 0;
  } catch (const std::system_error& error) {
    return error.code().value();
  }
}

TEST_F(ClientStarved, NobodyReadsWhyItCannotBeHad) {
  in_program(
      [] {
        fill_stderr();
        const TimeGuard time = exceptions_after(100ms);
        const Block block = time.enter();
        REQUIRE_IN_CHILD(error_of_entering(growth(kLimit)) == EINVAL);
        REQUIRE_IN_CHILD(wait_for<ExecutionTimeout>().guard == time.id());
        REQUIRE_IN_CHILD(in_child([] {}) == 0);
      },
      "nonsense");
}

TEST_F(ClientStarved, NobodyReadsThatThereIsNoAgent) {
  in_program([this] {
    fill_stderr();
    const SessionAgent agent(socket(), Manner::kRefuses);
    const MemGuard guard = growth(kLimit);
    const Block block = guard.enter();
    require_trips(guard, [] {});
    REQUIRE_IN_CHILD(in_child([] {}) == 0);
  });
}

}  // namespace
}  // namespace procguard::test
