// SPDX-License-Identifier: Apache-2.0
// Who asks: members of the socket's group that are not root.
#pragma once

#include <cstdint>
#include <string>

#include "tests/agent/agent_under_test.h"
#include "tests/support/peer.h"

namespace procguard::test {

inline constexpr uid_t kUser = 65533;   // a member of the socket's group
inline constexpr uid_t kOther = 65532;  // another one
inline constexpr gid_t kGroup = 65533;

// For a child: it is this user from now on, for good. Ends it if that fails.
void become(uid_t uid);

// A process of this user, which only sleeps.
Peer process_of(uid_t uid);

class AsUser : public AgentTest {
 protected:
  void SetUp() override;
  // The socket of a restarted agent is root's again.
  void open_socket();
  void restart_agent(const std::string& config);

  // A connection whose peer has these credentials.
  Result<proto::Client> connect_as(uid_t uid, gid_t gid = kGroup);
  // Who asks from now on, in all that the fixture asks.
  void ask_as(uid_t uid) { client_.emplace(connect_as(uid).value()); }
};

}  // namespace procguard::test
