// SPDX-License-Identifier: Apache-2.0
#include "sys/cgroup.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "sys/files.h"
#include "tests/support/child.h"
#include "tests/support/processes.h"
#include "tests/support/temp_tree.h"
#include "tests/support/test_cgroup.h"

namespace procguard::sys {
namespace {

CgroupMounts hybrid() {
  return {.v2 = CgroupMounts::V2{.point = "/sys/fs/cgroup/unified", .root = "/"},
          .v1_points = {"/sys/fs/cgroup/memory", "/sys/fs/cgroup/cpu,cpuacct"}};
}

TEST(CgroupPath, IsResolvedBelowTheV2Mount) {
  struct Row {
    const char* given;
    const char* resolved;
  };
  const Row rows[] = {
      {"/sys/fs/cgroup/unified/jobs/a", "/sys/fs/cgroup/unified/jobs/a"},
      {"/sys/fs/cgroup/unified/jobs/", "/sys/fs/cgroup/unified/jobs"},
      {"/sys/fs/cgroup/unified", "/sys/fs/cgroup/unified"},
      {"/jobs/a", "/sys/fs/cgroup/unified/jobs/a"},
      {"jobs/a", "/sys/fs/cgroup/unified/jobs/a"},
      {"/", "/sys/fs/cgroup/unified"},
      {"a..b", "/sys/fs/cgroup/unified/a..b"},
      {"/sys/fs/cgroup/unifiedx", "/sys/fs/cgroup/unified/sys/fs/cgroup/unifiedx"},
      {"a b\n", "/sys/fs/cgroup/unified/a b\n"},
  };
  for (const auto& row : rows) {
    const auto resolved = resolve_cgroup_path(hybrid(), row.given);
    ASSERT_TRUE(resolved) << row.given;
    EXPECT_EQ(resolved.value(), row.resolved);
  }
}

TEST(CgroupPath, AV1PathIsAnErrorThatNamesTheV2Path) {
  const auto v1 = resolve_cgroup_path(hybrid(), "/sys/fs/cgroup/memory/jobs/a");
  ASSERT_FALSE(v1);
  EXPECT_NE(v1.error().message().find("'/sys/fs/cgroup/unified/jobs/a'"), std::string::npos)
      << v1.error().message();
  EXPECT_FALSE(resolve_cgroup_path(hybrid(), "/sys/fs/cgroup/cpu,cpuacct"));
}

TEST(CgroupPath, BadOnesAreRefused) {
  for (const std::string& path : {std::string(), std::string(".."), std::string("/jobs/../../etc"),
                                  std::string("a/.."), std::string("a\0b", 3)}) {
    EXPECT_FALSE(resolve_cgroup_path(hybrid(), path)) << printable(path);
  }
  CgroupMounts none = hybrid();
  none.v2.reset();
  const auto unmounted = resolve_cgroup_path(none, "/jobs");
  ASSERT_FALSE(unmounted);
  EXPECT_EQ(unmounted.error().code(), ENODEV);
  // A name cannot write to the terminal through a message.
  const auto hostile = resolve_cgroup_path(hybrid(), "\x1b[2J/..");
  ASSERT_FALSE(hostile);
  EXPECT_EQ(hostile.error().message().find('\x1b'), std::string::npos);
}

TEST(CgroupPath, OfAProcess) {
  EXPECT_EQ(cgroup_directory(hybrid(), {.path = "/jobs/a"}), "/sys/fs/cgroup/unified/jobs/a");
  EXPECT_EQ(cgroup_directory(hybrid(), {.path = "/"}), "/sys/fs/cgroup/unified");
  EXPECT_FALSE(cgroup_directory(hybrid(), {.path = "/jobs/a", .deleted = true}));
  EXPECT_FALSE(cgroup_directory(hybrid(), {.path = "/../b"}));
  CgroupMounts part = hybrid();
  part.v2->root = "/docker/x";
  EXPECT_EQ(cgroup_directory(part, {.path = "/docker/x/y"}), "/sys/fs/cgroup/unified/y");
  EXPECT_FALSE(cgroup_directory(part, {.path = "/docker/xy"}));
  EXPECT_FALSE(cgroup_directory({}, {.path = "/a"}));
}

TEST(CgroupMounts, AreFoundInMountinfo) {
  const auto mounts = find_cgroup_mounts(parse_mountinfo(
      "30 23 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755\n"
      "31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw\n"
      "32 30 0:28 / /sys/fs/cgroup/my\\040memory rw - cgroup cgroup rw,memory\n"
      "33 30 0:27 /deep/er /mnt/part rw master:1 propagate_from:2 - cgroup2 none rw\n"
      "garbage\n\n34 30\n"));
  ASSERT_TRUE(mounts.v2);
  EXPECT_EQ(mounts.v2->point, "/sys/fs/cgroup/unified");
  EXPECT_EQ(mounts.v2->root, "/");
  EXPECT_EQ(mounts.v1_points, std::vector<std::string>{"/sys/fs/cgroup/my memory"});
  EXPECT_FALSE(find_cgroup_mounts({}).v2);
}

TEST(CgroupEvents, Lines) {
  EXPECT_EQ(parse_cgroup_event("populated 1\nfrozen 0\n", "populated"), true);
  EXPECT_EQ(parse_cgroup_event("populated 1\nfrozen 0", "frozen"), false);
  EXPECT_EQ(parse_cgroup_event("populated 1\n", "frozen"), std::nullopt);
  EXPECT_EQ(parse_cgroup_event("", "frozen"), std::nullopt);
}

TEST(Cgroup, ADirectoryElsewhereIsNotACgroup) {
  const test::TempTree tree{{"x/cgroup.procs", "1\n"}};
  const CgroupMounts fake{.v2 = CgroupMounts::V2{.point = tree.path(), .root = "/"},
                          .v1_points = {}};
  const auto wrong = Cgroup::open(fake, "x");
  ASSERT_FALSE(wrong);
  EXPECT_NE(wrong.error().message().find("cgroup v2"), std::string::npos);
  const auto missing = Cgroup::open(fake, "nothing");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code(), ENOENT);
  EXPECT_FALSE(Cgroup::open(fake, "x/cgroup.procs"));
  // An existing directory outside of the mount.
  const auto outside = Cgroup::open(fake, "/usr");
  ASSERT_FALSE(outside);
  EXPECT_NE(outside.error().message().find(tree.path()), std::string::npos);
}

using test::RealCgroup;

TEST_F(RealCgroup, ListsContainsAndKills) {
  make("/deep");
  make("/deep/er");
  auto cgroup = Cgroup::open(mounts_, path_);
  ASSERT_TRUE(cgroup) << cgroup.error().message();
  struct stat status {};
  ASSERT_EQ(::stat(path_.c_str(), &status), 0);
  EXPECT_EQ(cgroup->id(), status.st_ino);
  EXPECT_EQ(cgroup->path(), path_);
  ASSERT_TRUE(cgroup->populated());
  EXPECT_FALSE(cgroup->populated().value());
  EXPECT_TRUE(cgroup->processes().value().empty());

  test::Child one([] { test::pause_forever(); });
  test::Child below([] { test::pause_forever(); });
  test::Child outside([] { test::pause_forever(); });
  enter("", one.pid());
  enter("/deep/er", below.pid());
  std::vector<pid_t> both{one.pid(), below.pid()};
  std::sort(both.begin(), both.end());
  ASSERT_TRUE(cgroup->processes());
  EXPECT_EQ(cgroup->processes().value(), both);
  EXPECT_TRUE(cgroup->populated().value());
  EXPECT_FALSE(cgroup->frozen().value());
  EXPECT_TRUE(cgroup->contains(below.pid()).value());
  EXPECT_FALSE(cgroup->contains(outside.pid()).value());

  ASSERT_TRUE(cgroup->kill());
  EXPECT_EQ(WTERMSIG(one.wait()), SIGKILL);
  EXPECT_EQ(WTERMSIG(below.wait()), SIGKILL);
  EXPECT_TRUE(test::wait_until([&] { return !cgroup->populated().value(); }));
  EXPECT_NE(test::process_state(outside.pid()), 'Z');
}

TEST_F(RealCgroup, OneMadeAnewUnderTheSamePathIsAnother) {
  auto cgroup = Cgroup::open(mounts_, path_);
  ASSERT_TRUE(cgroup);
  EXPECT_TRUE(cgroup->still_there());
  ASSERT_EQ(::rmdir(path_.c_str()), 0);
  EXPECT_FALSE(cgroup->still_there());
  ASSERT_EQ(::mkdir(path_.c_str(), 0755), 0);
  EXPECT_FALSE(cgroup->still_there());
  test::Child child([] { test::pause_forever(); });
  enter("", child.pid());
  const auto pids = cgroup->processes();
  ASSERT_FALSE(pids);
  EXPECT_FALSE(cgroup->kill());
  EXPECT_NE(test::process_state(child.pid()), 'Z');
}

TEST_F(RealCgroup, AThreadedOneIsRefusedAndADomainListsWhatIsBelow) {
  make("/deep");
  ASSERT_TRUE(write_file(path_ + "/deep/cgroup.type", "threaded"));
  const auto threaded = Cgroup::open(mounts_, path_ + "/deep");
  ASSERT_FALSE(threaded);
  EXPECT_EQ(threaded.error().code(), EOPNOTSUPP);

  test::Child child([] { test::pause_forever(); });
  enter("", child.pid());
  ASSERT_TRUE(write_file(path_ + "/deep/cgroup.threads", std::to_string(child.pid())));
  auto domain = Cgroup::open(mounts_, path_);
  ASSERT_TRUE(domain);
  ASSERT_TRUE(domain->processes());
  EXPECT_EQ(domain->processes().value(), std::vector<pid_t>{child.pid()});
  child.end();
}

TEST_F(RealCgroup, HostileNames) {
  make("/deep");
  const std::string strange = path_ + "/deep/\x1b[31m (deleted)";
  ASSERT_EQ(::mkdir(strange.c_str(), 0755), 0);
  test::Child child([] { test::pause_forever(); });
  ASSERT_TRUE(write_file(strange + "/cgroup.procs", std::to_string(child.pid())));
  {
    const auto cgroup = Cgroup::open(mounts_, path_);
    ASSERT_TRUE(cgroup);
    EXPECT_EQ(cgroup.value().processes().value(), std::vector<pid_t>{child.pid()});
  }
  child.end();
  EXPECT_TRUE(test::wait_until([&] { return ::rmdir(strange.c_str()) == 0; }));
}

}  // namespace
}  // namespace procguard::sys
