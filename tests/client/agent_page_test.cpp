// SPDX-License-Identifier: Apache-2.0
// What the agent reads in the page of a program.
#include <gtest/gtest.h>
#include <unistd.h>

#include <optional>
#include <thread>
#include <vector>

#include "core/clock.h"
#include "tests/client/agent_program.h"
#include "tests/support/processes.h"

namespace procguard::test {
namespace {

using core::kSecond;

class ClientAgentPage : public AgentProgram {};

// --- the page -----------------------------------------------------------------------------------

// The line of this guard; nothing if it is not on the page, or not in this very state.
std::optional<proto::PageSlot> line_of(const SessionAgent& agent, std::uint64_t guard) {
  const proto::Page* page = agent.page();
  if (page == nullptr || page->header.magic != proto::kPageMagic || page->header.abi != PG_ABI ||
      page->header.slots != proto::kPageSlots) {
    return std::nullopt;
  }
  for (std::uint32_t i = 0; i < page->header.used; ++i) {
    const proto::PageSlot& slot = page->slot[i];
    if (slot.state == proto::kSlotEntered && slot.guard == guard && slot.version % 2 == 0) {
      return slot;
    }
  }
  return std::nullopt;
}

TEST_F(ClientAgentPage, IsShownTheGuards) {
  in_program([this] {
    const SessionAgent agent(socket());
    const TimeGuard before = exceptions_after(1h);
    const TimeGuard time = exceptions_after(2h);
    const MemGuard memory = growth(64_GiB, 3s);
    const Block before_block = before.enter();
    const Block memory_block = memory.enter();
    const std::uint64_t rss = rss_bytes();
    const auto begin = Clock::now().time_since_epoch().count();
    {
      const Block time_block = time.enter();
      const auto line = line_of(agent, time.id());
      REQUIRE_IN_CHILD(line.has_value());
      REQUIRE_IN_CHILD(line->tid == static_cast<std::uint32_t>(::gettid()));
      REQUIRE_IN_CHILD(line->resource == PG_TIMEOUT && line->limit == 7200 * kSecond);
      REQUIRE_IN_CHILD(line->base >= static_cast<std::uint64_t>(begin));
      REQUIRE_IN_CHILD(line->steps == 3 && line->next_step == 0);
    }
    REQUIRE_IN_CHILD(!line_of(agent, time.id()));
    const auto line = line_of(agent, memory.id());
    REQUIRE_IN_CHILD(line.has_value());
    REQUIRE_IN_CHILD(line->resource == PG_MEMORY_GROWTH && line->limit == (64_GiB).count);
    REQUIRE_IN_CHILD(line->base > rss / 2 && line->base < 2 * rss);
    REQUIRE_IN_CHILD(line->grace_ns == 3 * kSecond);
    REQUIRE_IN_CHILD(line_of(agent, before.id()).has_value());  // entered before the session
    REQUIRE_IN_CHILD(agent.page()->header.used == 3 && agent.page()->header.not_shown == 0);
  });
}

TEST_F(ClientAgentPage, IsShownTheSteps) {
  in_program([this] {
    const SessionAgent agent(socket());
    const Block session = growth(64_GiB).enter();
    const TimeGuard guard = exceptions_after(20ms);
    Block block = guard.enter();
    const auto line = line_of(agent, guard.id());
    REQUIRE_IN_CHILD(wait_for<ExecutionTimeout>().guard == guard.id());
    REQUIRE_IN_CHILD(wait_until([&] {
      const auto later = line_of(agent, guard.id());
      return later && later->next_step == 1;
    }));
    block.progress();
    // As of the monitor's next look, which is at the next step.
    REQUIRE_IN_CHILD(wait_for<ExecutionTimeout>().guard == guard.id());
    REQUIRE_IN_CHILD(wait_until([&] {
      const auto later = line_of(agent, guard.id());
      return later && later->base > line->base;
    }));
  });
}

// Slots are used again, by threads that come later too.
TEST_F(ClientAgentPage, IsShownNoMoreThanThereIsRoomFor) {
  in_program([this] {
    const SessionAgent agent(socket());
    const Block session = growth(64_GiB).enter();
    const TimeGuard guard = exceptions_after(1h);
    for (int i = 0; i < 50; ++i) {
      std::thread([&] {
        const Block one = guard.enter();
        const Block two = guard.enter();
      }).join();
    }
    REQUIRE_IN_CHILD(agent.page()->header.used == 3);
    std::vector<Block> blocks;
    for (std::uint32_t i = 0; i < proto::kPageSlots + 5; ++i) {
      blocks.push_back(guard.enter());
    }
    REQUIRE_IN_CHILD(agent.page()->header.used == proto::kPageSlots);
    // The session's and the two that another thread has had.
    REQUIRE_IN_CHILD(agent.page()->header.not_shown == 5 + 3);
    blocks.clear();
    REQUIRE_IN_CHILD(!line_of(agent, guard.id()));
    const Block block = guard.enter();
    REQUIRE_IN_CHILD(line_of(agent, guard.id()).has_value());
  });
}

}  // namespace
}  // namespace procguard::test
