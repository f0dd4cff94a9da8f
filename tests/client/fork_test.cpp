// SPDX-License-Identifier: Apache-2.0
// fork() and exec() in a guarded block. The child has none of its parent's guards, and may have its
// own; the parent keeps its.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>

#include "tests/client/guarded.h"
#include "tests/support/signals.h"

namespace procguard::test {
namespace {

TimeGuard exceptions_after(std::chrono::nanoseconds timeout) {
  return time_guard(
      {.timeout = timeout, .grace_period = 1h, .interrupt_type = InterruptType::exception});
}

// In a child: guards of its own work.
void require_guards_work() {
  const TimeGuard guard = exceptions_after(20ms);
  const auto begin = Clock::now();
  try {
    const Block block = guard.enter();
    sleep_for(kPatience);
    REQUIRE_IN_CHILD(!"nothing was thrown");
  } catch (const ExecutionTimeout& timeout) {
    REQUIRE_IN_CHILD(timeout.guard() == guard.id());
    REQUIRE_IN_CHILD(Clock::now() >= begin + 20ms);
  }
}

struct OpenFile {
  int fd;
  std::string what;
};

// What the kernel has no name for in the file system: epolls, timers, eventfds, BPF.
std::vector<OpenFile> anonymous_files() {
  std::vector<OpenFile> files;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    const std::string what = std::filesystem::read_symlink(entry.path(), gone);
    if (!gone && what.rfind("anon_inode:", 0) == 0) {
      files.push_back({std::stoi(entry.path().filename()), what});
    }
  }
  return files;
}

TEST(ClientFork, TheParentsBlocksAreVoidInTheChild) {
  const TimeGuard guard = exceptions_after(200ms);
  Block block = guard.enter();
  EXPECT_CHILD_OK(in_child([&] {
    const bool tripped = guard.last_trip().has_value();  // on a slow machine, before the fork
    REQUIRE_IN_CHILD(!block.entered());
    block.progress();
    bool none = false;
    try {
      progress();
    } catch (const std::runtime_error&) {
      none = true;
    }
    REQUIRE_IN_CHILD(none);
    guard.progress();
    REQUIRE_IN_CHILD(quiet_for(400ms));
    REQUIRE_IN_CHILD(!block.stop_token().stop_requested());
    block.leave();
    REQUIRE_IN_CHILD(guard.last_trip().has_value() == tripped);
  }));
  EXPECT_TRUE(block.entered());
  EXPECT_EQ(wait_for<ExecutionTimeout>().guard, guard.id());  // the parent is still guarded
}

TEST(ClientFork, TheChildMakesGuardsOfItsOwn) {
  const TimeGuard guard = exceptions_after(1h);
  const Block block = guard.enter();
  EXPECT_CHILD_OK(in_child([&] {
    require_guards_work();
    // Its threads too, and its own children.
    std::thread(require_guards_work).join();
    REQUIRE_IN_CHILD(in_child(require_guards_work) == 0);
    require_guards_work();
    // The guard itself is not void, only the parent's block of it.
    const Block mine = guard.enter();
    REQUIRE_IN_CHILD(mine.entered());
  }));
}

TEST(ClientFork, APendingExceptionStaysWithTheParent) {
  const TimeGuard guard = exceptions_after(1ms);
  Block block = guard.enter();
  while (!block.stop_token().stop_requested()) {
    std::this_thread::yield();
  }
  EXPECT_CHILD_OK(in_child([] {
    REQUIRE_IN_CHILD(quiet_for(20ms));
    require_guards_work();
  }));
  EXPECT_THROW(checkpoint(), ExecutionTimeout);
}

TEST(ClientFork, TheMonitorsFilesAreClosedInTheChild) {
  const Block time = exceptions_after(1h).enter();
  const Block memory = mem_guard({.max_memory = 64_GiB}).enter();
  EXPECT_FALSE(anonymous_files().empty());
  EXPECT_CHILD_OK(in_child([] {
    for (const OpenFile& file : anonymous_files()) {
      require(false, file.what.c_str());
    }
  }));
}

TEST(ClientFork, TheParentsMemoryGuardGoesOn) {
  const MemGuard guard = mem_guard({.max_memory = 4_MiB,
                                    .absolute = false,
                                    .interrupt_type = InterruptType::exception,
                                    .check_interval = 10ms});
  const Block block = guard.enter();
  EXPECT_CHILD_OK(in_child([] {
    require_guards_work();
    // The child's own, which is told its own growth.
    const MemGuard own = mem_guard({.max_memory = 4_MiB,
                                    .absolute = false,
                                    .interrupt_type = InterruptType::exception,
                                    .check_interval = 10ms});
    const Block inside = own.enter();
    REQUIRE_IN_CHILD(quiet_for(50ms));
    Pages pages(16_MiB);
    pages.touch();
    REQUIRE_IN_CHILD(wait_for<MemoryLimitExceeded>().guard == own.id());
  }));
  EXPECT_TRUE(quiet_for(50ms));  // the child's memory is not ours
  Pages pages(16_MiB);
  pages.touch();
  EXPECT_EQ(wait_for<MemoryLimitExceeded>().guard, guard.id());
}

// Not under sanitizers: their allocators' locks, of this compiler's version, are not let go in the
// child, and the threads here allocate.
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
TEST(ClientFork, WhileOtherThreadsAreInTheirGuards) {
  std::atomic<bool> stop{false};
  std::vector<std::thread> busy;
  for (int i = 0; i < 4; ++i) {
    busy.emplace_back([&stop, i] {
      const TimeGuard guard = exceptions_after(50us * i);
      while (!stop) {
        try {
          Block block = guard.enter();
          static_cast<void>(block.stop_token());
          sleep_for(100us);
          checkpoint();
        } catch (const ExecutionTimeout&) {
        }
      }
    });
  }
  for (int i = 0; i < 50; ++i) {
    EXPECT_CHILD_OK(in_child([] {
      require_guards_work();
      Block block = exceptions_after(1h).enter();
      static_cast<void>(block.stop_token());
    }));
  }
  stop = true;
  for (std::thread& thread : busy) {
    thread.join();
  }
}
#endif

// Many programs set all signals back after a fork: the library's own must not end them then.
TEST(ClientFork, AChildThatResetsAllSignals) {
  const TimeGuard guard = exceptions_after(1ms);
  EXPECT_THROW(guard([] { sleep_for(1h); })(), ExecutionTimeout);
  EXPECT_CHILD_OK(in_child([] {
    reset_signals();
    require_guards_work();
  }));
}

// --- exec ---------------------------------------------------------------------------------------

TEST(ClientExec, TheNewProgramIsNotGuarded) {
  const int status = in_child([] {
    const TimeGuard guard = time_guard({.timeout = 100ms,
                                        .grace_period = 10ms,
                                        .interrupt_type = InterruptType::signal,
                                        .send_kill = true});
    const Block block = guard.enter();
    ::execl("/bin/sleep", "sleep", "0.5", nullptr);
    REQUIRE_IN_CHILD(!"exec");
  });
  EXPECT_CHILD_OK(status);
}

TEST(ClientExec, InheritsNoFiles) {
  const Block time = exceptions_after(1h).enter();
  const Block memory = mem_guard({.max_memory = 64_GiB}).enter();
  for (const OpenFile& file : anonymous_files()) {
    EXPECT_NE(::fcntl(file.fd, F_GETFD) & FD_CLOEXEC, 0) << file.what;
  }
}

// --- threads ------------------------------------------------------------------------------------

// A thread that ends inside its guards leaves them: its tid may be another's by then.
TEST(ClientThreads, EndInsideAGuard) {
  const SignalCatcher catcher;
  const TimeGuard signals =
      time_guard({.timeout = 1s, .grace_period = 10ms, .interrupt_type = InterruptType::signal});
  const TimeGuard exceptions = exceptions_after(1s);
  std::vector<Block> blocks(20);
  for (std::size_t i = 0; i < blocks.size(); i += 2) {
    std::thread([&] {
      blocks[i] = signals.enter();
      blocks[i + 1] = exceptions.enter();
    }).join();
    EXPECT_FALSE(blocks[i].entered());
    EXPECT_FALSE(blocks[i + 1].entered());
  }
  EXPECT_TRUE(quiet_for(1200ms));
  EXPECT_EQ(SignalCatcher::count(), 0U);
  EXPECT_FALSE(signals.last_trip().has_value());
  EXPECT_FALSE(exceptions.last_trip().has_value());
}

TEST(ClientThreads, EndWithAnExceptionPending) {
  const TimeGuard guard = exceptions_after(1ms);
  Block block;
  std::thread([&] {
    block = guard.enter();
    while (!block.stop_token().stop_requested()) {
      std::this_thread::yield();
    }
  }).join();
  EXPECT_FALSE(block.entered());
  EXPECT_TRUE(guard.last_trip()->withdrawn);
  // A thread that comes after it, perhaps in its record, has nothing pending.
  std::thread([] { EXPECT_TRUE(quiet_for(20ms)); }).join();
}

TEST(ClientThreads, AnotherThreadLeaves) {
  const TimeGuard guard = exceptions_after(500ms);
  Block block = guard.enter();
  std::thread([moved = std::move(block)]() mutable { moved.leave(); }).join();
  EXPECT_TRUE(quiet_for(600ms));
  EXPECT_THROW(progress(), std::runtime_error);
  EXPECT_FALSE(guard.last_trip().has_value());
}

TEST(ClientThreads, AnotherThreadLeavesWithAnExceptionPending) {
  const TimeGuard guard = exceptions_after(1ms);
  const TimeGuard around = exceptions_after(1h);
  Block outer = around.enter();
  Block block = guard.enter();
  while (!block.stop_token().stop_requested()) {
    std::this_thread::yield();
  }
  std::thread([moved = std::move(block)] {}).join();
  EXPECT_NO_THROW(checkpoint());
  EXPECT_NO_THROW(outer.progress());
  EXPECT_TRUE(guard.last_trip()->withdrawn);
}

TEST(ClientThreads, AnotherThreadDestroysTheGuard) {
  auto guard = std::make_unique<TimeGuard>(
      TimeOptions{.timeout = 30ms, .interrupt_type = InterruptType::exception});
  const std::uint64_t id = guard->id();
  const Block block = guard->enter();
  std::thread([&] { guard.reset(); }).join();
  EXPECT_EQ(wait_for<ExecutionTimeout>().guard, id);
}

// Entered on one thread, taken on by another: the exception is for who entered.
TEST(ClientThreads, AMovedBlockBelongsToWhoEntered) {
  const TimeGuard guard = exceptions_after(50ms);
  Block block = guard.enter();
  std::thread([moved = std::move(block)]() mutable {
    EXPECT_TRUE(quiet_for(150ms));
    moved.progress();  // somebody else's: does not throw
    EXPECT_TRUE(moved.entered());
  }).join();
  EXPECT_TRUE(guard.last_trip()->withdrawn);
}

}  // namespace
}  // namespace procguard::test
