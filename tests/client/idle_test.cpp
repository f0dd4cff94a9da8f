// SPDX-License-Identifier: Apache-2.0
// What guards cost that nothing happens to: no wake-ups, no memory, no files.
#include <gtest/gtest.h>

#include "tests/client/guarded.h"
#include "tests/support/processes.h"

namespace procguard::test {
namespace {

long switches(pid_t tid) {
  return status_number(tid, "voluntary_ctxt_switches") +
         status_number(tid, "nonvoluntary_ctxt_switches");
}

// Waits until the monitor has nothing left to do of what was before.
void settle(pid_t monitor) {
  ASSERT_TRUE(wait_until([&] {
    const long before = switches(monitor);
    std::this_thread::sleep_for(200ms);
    return switches(monitor) == before;
  }));
}

TEST(ClientIdle, TheMonitorSleeps) {
  std::vector<Block> blocks;
  for (int i = 0; i < 50; ++i) {
    blocks.push_back(time_guard({.timeout = 1h}).enter());
  }
  const pid_t monitor = thread_named("procguard");
  ASSERT_NE(monitor, 0);
  settle(monitor);
  const long before = switches(monitor);
  std::this_thread::sleep_for(2s);
  EXPECT_EQ(switches(monitor), before);
  // Nor does it wake for what is not its earliest deadline.
  for (int i = 0; i < 1000; ++i) {
    Block block = time_guard({.timeout = 2h}).enter();
    block.progress();
  }
  EXPECT_EQ(switches(monitor), before);
}

TEST(ClientIdle, TheMonitorSleepsWithMemoryGuards) {
  std::vector<Block> blocks;
  for (int i = 0; i < 50; ++i) {
    blocks.push_back(
        mem_guard({.max_memory = {(64ULL << 30U) + static_cast<unsigned>(i)}, .check_interval = 1h})
            .enter());
  }
  const pid_t monitor = thread_named("procguard");
  ASSERT_NE(monitor, 0);
  if (std::string(procguard_source()) != "bpf") {
    GTEST_SKIP() << "needs BPF: without it memory is read every check_interval";
  }
  settle(monitor);
  const long before = switches(monitor);
  Pages pages(32_MiB);
  pages.touch();  // away from the limit that is nobody's business
  std::this_thread::sleep_for(2s);
  EXPECT_EQ(switches(monitor), before);
}

// Runs `once` many times and says how much RSS and files have grown.
void expect_flat(const char* what, long times, const std::function<void()>& once) {
  SCOPED_TRACE(what);
  for (long i = 0; i < times / 10 + 1; ++i) {
    once();
  }
  const std::uint64_t rss = rss_bytes();
  const std::size_t fds = open_fds();
  for (long i = 0; i < times; ++i) {
    once();
  }
  EXPECT_EQ(open_fds(), fds);
  if (!kSanitized) {  // they keep back what is freed
    EXPECT_LT(rss_bytes(), rss + (1U << 20U));
  }
}

TEST(ClientIdle, NothingLeaks) {
  const long million = kSanitized ? 20'000 : 1'000'000;
  expect_flat("a guard made, entered, left", million, [] {
    Block block = time_guard({.timeout = 1h}).enter();
    block.progress();
  });
  const TimeGuard guard = time_guard({.timeout = 1h});
  expect_flat("entered again and again, with a token", million / 10, [&] {
    Block block = guard.enter();
    static_cast<void>(block.stop_token());
  });
  const TimeGuard tripping =
      time_guard({.timeout = 0ms, .grace_period = 1h, .interrupt_type = InterruptType::exception});
  expect_flat("thrown", million / 100, [&] {
    const Block block = tripping.enter();
    EXPECT_THROW(sleep_for(1h), ExecutionTimeout);
  });
  expect_flat("withdrawn or thrown", million / 100, [&] {
    const Block block = tripping.enter();
    try {
      checkpoint();
    } catch (const ExecutionTimeout&) {
    }
  });
  expect_flat("threads that end", million / 1000, [&] {
    std::thread([&] {
      const Block outer = guard.enter();
      const Block inner = guard.enter();
    }).join();
  });
  const MemGuard memory = mem_guard({.max_memory = 64_GiB});
  expect_flat("memory guards", million / 10, [&] { const Block block = memory.enter(); });
}

}  // namespace
}  // namespace procguard::test
