// SPDX-License-Identifier: Apache-2.0
#include "tests/agent/as_user.h"

#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

namespace procguard::test {

void become(uid_t uid) {
  if (::setgroups(0, nullptr) != 0 || ::setresgid(kGroup, kGroup, kGroup) != 0 ||
      ::setresuid(uid, uid, uid) != 0) {
    ::_exit(99);
  }
}

Peer process_of(uid_t uid) {
  Peer peer([uid](Script& line) {
    become(uid);
    line.say();
    sleep_on();
  });
  peer.hear();
  return peer;
}

void AsUser::SetUp() {
  AgentTest::SetUp();
  if (agent_) {
    open_socket();
  }
}

void AsUser::open_socket() {
  ASSERT_EQ(::chown(place_.socket.c_str(), 0, kGroup), 0);
  ASSERT_EQ(::chmod(place_.socket.c_str(), 0660), 0);
  ASSERT_EQ(::chmod(place_.directory.c_str(), 0755), 0);
}

void AsUser::restart_agent(const std::string& config) {
  client_.reset();
  EXPECT_EQ(agent_->stop(), 0);
  const std::string file = place_.directory + "/agent.toml";
  std::ofstream(file) << config;
  start_agent({"--config", file});
  open_socket();
}

// The kernel notes who connects by the effective ids of that moment.
Result<proto::Client> AsUser::connect_as(uid_t uid, gid_t gid) {
  gid_t groups[64];
  const int count = ::getgroups(64, groups);
  EXPECT_EQ(::setgroups(0, nullptr) | ::setegid(gid) | ::seteuid(uid), 0);
  auto client = proto::Client::connect(place_.socket);
  EXPECT_EQ(::seteuid(0) | ::setegid(0) |
                ::setgroups(static_cast<std::size_t>(count < 0 ? 0 : count), groups),
            0);
  return client;
}

}  // namespace procguard::test
