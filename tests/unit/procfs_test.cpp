// SPDX-License-Identifier: Apache-2.0
#include "sys/procfs.h"

#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <thread>

#include "tests/support/child.h"
#include "tests/support/processes.h"
#include "tests/support/temp_tree.h"

namespace procguard::sys {
namespace {

using test::Child;
using test::TempTree;
using test::wait_until;

std::string stat_line(pid_t pid, pid_t ppid, char state = 'S') {
  return std::to_string(pid) + " (x) " + state + " " + std::to_string(ppid) +
         " 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 100 0 0 0 1 1 1\n";
}

TEST(ProcRoot, ReadsAFakeTree) {
  const TempTree tree{{"12/stat", stat_line(12, 7)},
                      {"12/statm", "100 25 5 0 0 0 0\n"},
                      {"12/task/12/children", "13 14 "},
                      {"12/task/15/children", "16 "},
                      {"12/task/12/wchan", "do_\x1b_wait"},
                      {"12/task/15/wchan", "0"},
                      {"12/task/12/syscall", "35 0x1\n"},
                      {"12/cgroup", "0::/a\n"},
                      {"uptime", "10.00 1.00\n"},
                      {"cpuinfo", ""},
                      {"self-made", ""}};
  tree.link("self", "12");
  const ProcRoot proc(tree.path());
  EXPECT_EQ(proc.stat(12).value().ppid, 7);
  EXPECT_EQ(proc.rss_bytes(12).value(), 25 * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)));
  EXPECT_EQ(proc.processes().value(), std::vector<pid_t>{12});
  auto children = Children(proc).of(12);
  ASSERT_TRUE(children);
  std::sort(children->begin(), children->end());
  EXPECT_EQ(children.value(), (std::vector<pid_t>{13, 14, 16}));
  EXPECT_EQ(proc.wchan(12, 12), "do_\\x1b_wait");
  EXPECT_EQ(proc.wchan(12, 15), "");
  EXPECT_EQ(proc.syscall(12, 12)->number, 35);
  EXPECT_FALSE(proc.syscall(12, 15));
  EXPECT_EQ(proc.cgroup(12).value().path, "/a");
  EXPECT_EQ(proc.uptime().value(), 10 * core::kSecond);
  EXPECT_EQ(proc.self().value(), 12);
}

TEST(ProcRoot, TellsAGoneProcessFromAMissingFileAndFromGarbage) {
  const TempTree tree{{"12/stat", "garbage"}, {"12/task/12/stat", ""}};
  const ProcRoot proc(tree.path());
  EXPECT_EQ(proc.stat(12).error().code(), EPROTO);
  EXPECT_EQ(proc.stat(13).error().code(), ESRCH);
  EXPECT_EQ(proc.status(12).error().code(), ENOENT);
  EXPECT_EQ(proc.thread_schedstat(12, 12).error().code(), ENOENT);
  EXPECT_EQ(proc.thread_schedstat(12, 13).error().code(), ESRCH);
  EXPECT_EQ(proc.threads(13).error().code(), ESRCH);
  EXPECT_NE(proc.stat(12).error().message().find(tree.path() + "/12/stat"), std::string::npos);
  EXPECT_FALSE(proc.self());
  tree.link("self", "not a pid");
  EXPECT_EQ(proc.self().error().code(), EPROTO);
}

TEST(Children, WithoutTheKernelsListAllProcessesAreAsked) {
  const TempTree tree{{"1/stat", stat_line(1, 0)},   {"1/task/1/stat", ""},
                      {"20/stat", stat_line(20, 1)}, {"20/task/20/stat", ""},
                      {"30/stat", stat_line(30, 1)}, {"40/stat", stat_line(40, 20)},
                      {"50/stat", "garbage"}};
  const ProcRoot proc(tree.path());
  Children children(proc);
  auto of_1 = children.of(1);
  ASSERT_TRUE(of_1);
  std::sort(of_1->begin(), of_1->end());
  EXPECT_EQ(of_1.value(), (std::vector<pid_t>{20, 30}));
  EXPECT_EQ(children.of(20).value(), std::vector<pid_t>{40});
  EXPECT_TRUE(children.of(40).value().empty());
}

TEST(ProcRoot, ReadsRealProcesses) {
  const ProcRoot proc;
  EXPECT_EQ(proc.self().value(), ::getpid());
  EXPECT_TRUE(proc.uptime());
  EXPECT_GT(proc.rss_bytes(::getpid()).value(), 1U << 20);
  EXPECT_TRUE(proc.executable(::getpid()));
  EXPECT_FALSE(proc.mounts().value().empty());

  Child child([] {
    ::prctl(PR_SET_NAME, ") R 1 (\n x");
    test::pause_forever();
  });
  ASSERT_TRUE(wait_until([&] { return proc.stat(child.pid()).value().comm == ") R 1 (\n x"; }));
  const auto stat = proc.stat(child.pid());
  EXPECT_EQ(stat.value().ppid, ::getpid());
  EXPECT_EQ(proc.status(child.pid()).value().real_uid, ::getuid());
  EXPECT_EQ(proc.executable(child.pid()).value(), proc.executable(::getpid()).value());
  // A fork keeps what an exec changes.
  EXPECT_EQ(stat.value().start_stack, proc.stat(::getpid()).value().start_stack);
  EXPECT_NE(stat.value().start_stack, 0U);
  const auto children = Children(proc).of(::getpid());
  ASSERT_TRUE(children);
  EXPECT_NE(std::find(children->begin(), children->end(), child.pid()), children->end());

  const auto started = ticks_to_ns(stat.value().start_ticks);
  EXPECT_LE(started, proc.uptime().value());
}

// The leader's own statm is all zeros then, although the process lives and uses memory.
TEST(ProcRoot, RssOfAProcessWhoseLeaderHasExited) {
  Child child([] {
    std::thread([] { test::pause_forever(); }).detach();
    ::syscall(SYS_exit, 0);  // this thread only
  });
  const ProcRoot proc;
  ASSERT_TRUE(wait_until([&] { return proc.stat(child.pid()).value().state == 'Z'; }));
  EXPECT_FALSE(proc.stat(child.pid()).value().ended());
  EXPECT_GT(proc.rss_bytes(child.pid()).value(), 0U);
  child.end();
}

TEST(ProcRoot, RssOfAZombieIsZero) {
  Child child([] {});
  const ProcRoot proc;
  ASSERT_TRUE(wait_until([&] { return proc.stat(child.pid()).value().ended(); }));
  EXPECT_EQ(proc.rss_bytes(child.pid()).value(), 0U);
}

}  // namespace
}  // namespace procguard::sys
