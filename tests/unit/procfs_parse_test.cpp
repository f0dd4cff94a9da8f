// SPDX-License-Identifier: Apache-2.0
#include "sys/procfs_parse.h"

#include <gtest/gtest.h>

namespace procguard::sys {
namespace {

// A stat line with this comm: fields as proc(5) numbers them.
std::string stat_line(const std::string& comm, const std::string& rest =
                                                   "S 7 12 13 0 -1 4194304 1 2 3 4 50 60 70 80 20 "
                                                   "0 3 0 999 1000 200 18446744073709551615 4096 "
                                                   "8192 140000000000 0 0 0 0") {
  return "12 (" + comm + ") " + rest + "\n";
}

TEST(ParseStat, Fields) {
  const auto stat = parse_stat(stat_line("cat"));
  ASSERT_TRUE(stat);
  EXPECT_EQ(stat->pid, 12);
  EXPECT_EQ(stat->comm, "cat");
  EXPECT_EQ(stat->state, 'S');
  EXPECT_EQ(stat->ppid, 7);
  EXPECT_EQ(stat->process_group, 12);
  EXPECT_EQ(stat->session, 13);
  EXPECT_EQ(stat->flags, 4194304U);
  EXPECT_EQ(stat->user_ticks, 50U);
  EXPECT_EQ(stat->system_ticks, 60U);
  EXPECT_EQ(stat->children_user_ticks, 70U);
  EXPECT_EQ(stat->children_system_ticks, 80U);
  EXPECT_EQ(stat->threads, 3U);
  EXPECT_EQ(stat->start_ticks, 999U);
  EXPECT_EQ(stat->start_code, 4096U);
  EXPECT_EQ(stat->start_stack, 140000000000U);
  EXPECT_FALSE(stat->kernel_thread());
}

TEST(ParseStat, HostileNames) {
  for (const std::string comm : {"a b", ") R 1 1 1 0", "(((", ")))", "\n", ") S 1", "", "%s%n",
                                 "\x1b[2J", "a) R 1 1 1 0 -1 0 0 0 0"}) {
    const auto stat = parse_stat(stat_line(comm));
    ASSERT_TRUE(stat) << comm;
    EXPECT_EQ(stat->comm, comm);
    EXPECT_EQ(stat->ppid, 7);
    EXPECT_EQ(stat->start_ticks, 999U);
  }
}

TEST(ParseStat, WhatIsNotOneIsRefused) {
  for (const std::string& text :
       {std::string(), std::string("12"), std::string("12 (cat"), std::string(") 12 ("),
        std::string("x (cat) S 1"), stat_line("cat", "S 7 12"), stat_line("cat", ""),
        stat_line("cat", "SS 7 12 13 0 -1 0 1 2 3 4 50 60 70 80 20 0 3 0 999 1 2 3 4 5 6"),
        stat_line("cat", "S -7x 12 13 0 -1 0 1 2 3 4 50 60 70 80 20 0 3 0 999 1 2 3 4 5 6"),
        stat_line("cat", "S 99999999999999 12 13 0 -1 0 1 2 3 4 5 6 7 8 20 0 3 0 9 1 2 3 4 5 6")}) {
    EXPECT_FALSE(parse_stat(text)) << text;
  }
}

TEST(ParseStat, KernelThreadsAndEnds) {
  auto stat = parse_stat(stat_line("kthreadd",
                                   "S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 9 0 "
                                   "0 0 0 0 0"));
  ASSERT_TRUE(stat);
  EXPECT_TRUE(stat->kernel_thread());

  struct Row {
    char state;
    std::uint64_t threads;
    bool ended;
  };
  for (const Row row : {Row{'R', 1, false}, Row{'Z', 1, true}, Row{'X', 0, true},
                        Row{'Z', 2, false}, Row{'D', 1, false}, Row{'T', 1, false}}) {
    Stat one;
    one.state = row.state;
    one.threads = row.threads;
    EXPECT_EQ(one.ended(), row.ended) << row.state << row.threads;
  }
}

TEST(ParseStatm, Fields) {
  const auto statm = parse_statm("2000 150 100 1 0 90 0\n");
  ASSERT_TRUE(statm);
  EXPECT_EQ(statm->size, 2000U);
  EXPECT_EQ(statm->resident, 150U);
  EXPECT_EQ(statm->shared, 100U);
  EXPECT_FALSE(parse_statm(""));
  EXPECT_FALSE(parse_statm("1 2"));
  EXPECT_FALSE(parse_statm("1 -2 3"));
}

constexpr const char* kStatus =
    "Name:\tState:\\nUid\n"
    "Umask:\t0022\n"
    "State:\tt (tracing stop)\n"
    "Tgid:\t12\n"
    "TracerPid:\t77\n"
    "Uid:\t1000\t1001\t1002\t1003\n"
    "NSpid:\t12\t5\t1\n"
    "VmHWM:\t    2048 kB\n"
    "VmRSS:\t    1024 kB\n"
    "SigCgt:\t0000000000004002\n"
    "voluntary_ctxt_switches:\t150\n"
    "nonvoluntary_ctxt_switches:\t545\n";

TEST(ParseStatus, Fields) {
  const auto status = parse_status(kStatus);
  ASSERT_TRUE(status);
  EXPECT_EQ(status->state, 't');
  EXPECT_EQ(status->tracer_pid, 77);
  EXPECT_EQ(status->real_uid, 1000U);
  EXPECT_EQ(status->effective_uid, 1001U);
  EXPECT_EQ(status->saved_uid, 1002U);
  EXPECT_EQ(status->ns_pids, (std::vector<pid_t>{12, 5, 1}));
  EXPECT_TRUE(status->namespace_init());
  EXPECT_EQ(status->peak_rss_bytes, 2048U * 1024);
  EXPECT_EQ(status->rss_bytes, 1024U * 1024);
  EXPECT_TRUE(status->catches(2));
  EXPECT_TRUE(status->catches(15));
  EXPECT_FALSE(status->catches(1));
  EXPECT_FALSE(status->catches(0));
  EXPECT_FALSE(status->catches(65));
  EXPECT_EQ(status->voluntary_switches, 150U);
  EXPECT_EQ(status->involuntary_switches, 545U);
}

TEST(ParseStatus, OwnPid1IsNoNamespaceInit) {
  Status status;
  status.ns_pids = {1};
  EXPECT_FALSE(status.namespace_init());
  status.ns_pids = {300, 2};
  EXPECT_FALSE(status.namespace_init());
  status.ns_pids = {300, 1};
  EXPECT_TRUE(status.namespace_init());
}

TEST(ParseStatus, WithoutMemoryOrWithoutSense) {
  const auto kernel_thread = parse_status("State:\tS (sleeping)\nUid:\t0\t0\t0\t0\n");
  ASSERT_TRUE(kernel_thread);
  EXPECT_EQ(kernel_thread->rss_bytes, 0U);
  EXPECT_FALSE(parse_status(""));
  EXPECT_FALSE(parse_status("State:\tS\n"));
  EXPECT_FALSE(parse_status("State:\tS\nUid:\t0\n"));
}

TEST(ParseSmallFiles, Schedstat) {
  const auto stat = parse_schedstat("123456789 42 7\n");
  ASSERT_TRUE(stat);
  EXPECT_EQ(stat->cpu_ns, 123456789U);
  EXPECT_EQ(stat->runnable_wait_ns, 42U);
  EXPECT_EQ(stat->slices, 7U);
  EXPECT_FALSE(parse_schedstat("1 2"));
}

TEST(ParseSmallFiles, Pids) {
  EXPECT_EQ(parse_pids("1 22 333 \n"), (std::vector<pid_t>{1, 22, 333}));
  EXPECT_EQ(parse_pids("5\n0\n6\n"), (std::vector<pid_t>{5, 6}));
  EXPECT_EQ(parse_pids(""), std::vector<pid_t>{});
  EXPECT_FALSE(parse_pids("1 x"));
  EXPECT_FALSE(parse_pids("-1"));
  EXPECT_EQ(parse_pid("12"), 12);
  for (const char* name : {"", "0", "-3", "12x", "self", "99999999999"}) {
    EXPECT_FALSE(parse_pid(name)) << name;
  }
}

TEST(ParseSmallFiles, Syscall) {
  EXPECT_TRUE(parse_syscall("running\n")->running);
  EXPECT_EQ(parse_syscall("230 0x0 0x0 0x7f 0x7f 0x0 0x0 0x7ffe 0x7f\n")->number, 230);
  EXPECT_EQ(parse_syscall("-1 0x7ffe 0x7f\n")->number, -1);
  EXPECT_FALSE(parse_syscall(""));
}

TEST(ParseSmallFiles, Uptime) {
  EXPECT_EQ(parse_uptime("12.34 56.78\n"), 12'340'000'000U);
  EXPECT_EQ(parse_uptime("0.05 0.00\n"), 50'000'000U);
  for (const char* text : {"", "12", "12.3", "12.345", "x.12", "-1.00"}) {
    EXPECT_FALSE(parse_uptime(text)) << text;
  }
}

TEST(ParseCgroup, V2Line) {
  const auto line = parse_cgroup_v2("12:memory:/v1\n1:name=0::/no:/v1\n0::/jobs/a b\n");
  ASSERT_TRUE(line);
  EXPECT_EQ(line->path, "/jobs/a b");
  EXPECT_FALSE(line->deleted);
  const auto deleted = parse_cgroup_v2("0::/jobs/a (deleted)\n");
  ASSERT_TRUE(deleted);
  EXPECT_EQ(deleted->path, "/jobs/a");
  EXPECT_TRUE(deleted->deleted);
  EXPECT_FALSE(parse_cgroup_v2("12:memory:/v1\n"));
  EXPECT_FALSE(parse_cgroup_v2("0::relative\n"));
  EXPECT_FALSE(parse_cgroup_v2(""));
}

TEST(ParseMountinfo, EscapesAndOptionalFields) {
  const auto mounts = parse_mountinfo(
      "1 2 0:3 /r\\134oot /a\\040b\\011c rw - ext4 /dev/x rw,data=\\040\n"
      "1 2 0:3 / /tagged rw shared:1 master:2 - tmpfs tmpfs rw\n"
      "1 2 0:3 / /no-type rw shared:1\n");
  ASSERT_EQ(mounts.size(), 2U);
  EXPECT_EQ(mounts[0].root, "/r\\oot");
  EXPECT_EQ(mounts[0].point, "/a b\tc");
  EXPECT_EQ(mounts[0].type, "ext4");
  EXPECT_EQ(mounts[1].point, "/tagged");
  EXPECT_EQ(mounts[1].super_options, "rw");
}

TEST(Printable, EscapesEverythingThatIsNotPlain) {
  EXPECT_EQ(printable("cat (1)"), "cat (1)");
  EXPECT_EQ(printable("a\nb\x1b[0m"), "a\\x0ab\\x1b[0m");
  EXPECT_EQ(printable("back\\slash"), "back\\\\slash");
  EXPECT_EQ(printable(std::string("\0\xff\x7f", 3)), "\\x00\\xff\\x7f");
  EXPECT_EQ(printable("\xc3"), "\\xc3");  // a UTF-8 letter cut in the middle by comm's 15 bytes
}

}  // namespace
}  // namespace procguard::sys
