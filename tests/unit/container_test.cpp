// SPDX-License-Identifier: Apache-2.0
// Which cgroup is a container's, by the names that runtimes give.
#include "cli/container.h"

#include <gtest/gtest.h>

#include <string>

#include "cli/agent_link.h"
#include "tests/support/temp_tree.h"

namespace procguard::cli {
namespace {

const std::string kId = "3f2a9c0011223344556677889900aabbccddeeff00112233445566778899aabb";
const std::string kOther = "3f2a9d0011223344556677889900aabbccddeeff00112233445566778899aabb";

TEST(Container, Names) {
  struct Row {
    std::string directory;
    std::string id;
    IdMatch match;
  };
  const Row rows[] = {
      {kId, kId, IdMatch::kExact},
      {"libpod-" + kId, kId, IdMatch::kExact},
      {"libpod-" + kId + ".scope", kId, IdMatch::kExact},
      {"docker-" + kId + ".scope", kId, IdMatch::kExact},
      {"cri-containerd-" + kId + ".scope", kId, IdMatch::kExact},
      {"crio-" + kId + ".scope", kId, IdMatch::kExact},
      {"runc-" + kId + ".scope", kId, IdMatch::kExact},
      {"runc-my-box.scope", "my-box", IdMatch::kExact},
      {"my-box", "my-box", IdMatch::kExact},
      {kId, "3f2a9c", IdMatch::kPrefix},
      {"libpod-" + kId, "3f2a9c", IdMatch::kPrefix},
      {"cri-containerd-" + kId + ".scope", "3f2a9c00", IdMatch::kPrefix},
      {kId, "3f2a9", IdMatch::kNo},
      {"docker-" + kId + ".scope", "3f2a9", IdMatch::kNo},
      {kId, "3F2A9C", IdMatch::kNo},
      {kId, "2a9c00", IdMatch::kNo},
      {kOther, "3f2a9c", IdMatch::kNo},
      {"my-box", "my-bo", IdMatch::kNo},
      {"my-box", "box", IdMatch::kNo},
      {"runc-" + kId + ".scope", "scope", IdMatch::kNo},
      {"docker-" + kId + ".service", kId, IdMatch::kNo},
      {"libpod-conmon-" + kId + ".scope", kId, IdMatch::kNo},
      {"crio-conmon-" + kId + ".scope", "3f2a9c", IdMatch::kNo},
      {"-.scope", "abcdef", IdMatch::kNo},
      {".scope", "abcdef", IdMatch::kNo},
      {"", "abcdef", IdMatch::kNo},
  };
  for (const Row& row : rows) {
    EXPECT_EQ(match_container(row.directory, row.id), row.match) << row.directory << " " << row.id;
  }
}

TEST(Container, IsFoundWhereverItLies) {
  test::TempTree tree;
  const std::string pod = "kubepods.slice/burst/cri-containerd-" + kOther + ".scope";
  tree.make_directory("machine.slice/libpod-" + kId + ".scope/container");
  tree.make_directory("machine.slice/libpod-conmon-" + kId + ".scope");
  tree.make_directory(pod);
  tree.make_directory("a/box");
  struct Row {
    std::string id;
    std::string path;
  };
  const Row rows[] = {
      {kId, "machine.slice/libpod-" + kId + ".scope"},
      {"3f2a9c", "machine.slice/libpod-" + kId + ".scope"},
      {"3f2a9d", pod},
      {"box", "a/box"},
  };
  for (const Row& row : rows) {
    const auto found = find_container(tree.path(), row.id);
    ASSERT_TRUE(found) << row.id << ": " << found.error().message();
    EXPECT_EQ(found.value(), tree.at(row.path));
  }
}

TEST(Container, AnExactNameWins) {
  test::TempTree tree;
  tree.make_directory("x/abcdef");
  tree.make_directory("y/abcdef0123");
  EXPECT_EQ(find_container(tree.path(), "abcdef").value(), tree.at("x/abcdef"));
}

TEST(Container, Mistakes) {
  test::TempTree tree;
  tree.make_directory("docker/" + kId);
  tree.make_directory("docker/" + kOther);
  struct Row {
    std::string id;
    int status;
    std::string mentions;
  };
  const Row rows[] = {
      {"abcdef", kAgentNone, "abcdef"},
      {"3f2a9c00ff", kAgentNone, "no cgroup"},
      {"3f2a9", kAgentNone, "6"},
      {"", kAgentUsage, "no container id"},
      {"..", kAgentUsage, "no container id"},
      {"a/b", kAgentUsage, "no container id"},
      {"a b", kAgentUsage, "no container id"},
      {"a\nb", kAgentUsage, "\\x0a"},
  };
  for (const Row& row : rows) {
    const auto found = find_container(tree.path(), row.id);
    ASSERT_FALSE(found) << row.id;
    EXPECT_EQ(found.error().code(), row.status) << row.id;
    EXPECT_NE(found.error().message().find(row.mentions), std::string::npos)
        << found.error().message();
  }
  tree.make_directory("other/" + kId);
  const auto twice = find_container(tree.path(), kId);
  ASSERT_FALSE(twice);
  EXPECT_EQ(twice.error().code(), kAgentUsage);
  EXPECT_NE(twice.error().message().find("any of 2"), std::string::npos) << twice.error().message();
  EXPECT_NE(twice.error().message().find(tree.at("other/" + kId)), std::string::npos);
}

}  // namespace
}  // namespace procguard::cli
