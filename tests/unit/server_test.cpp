// SPDX-License-Identifier: Apache-2.0
#include "agent/server.h"

#include <gtest/gtest.h>

#include <map>

#include "tests/support/fake_clock.h"
#include "tests/support/temp_tree.h"

namespace procguard::agent {
namespace {

// Each request takes a millisecond.
class ServerTurns : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(server_.listen(tree_.path() + "/socket", "")); }

  sys::SeqPacket client(int requests) {
    auto socket = sys::SeqPacket::connect(tree_.path() + "/socket").value();
    for (int i = 0; i < requests; ++i) {
      proto::Writer request(proto::Op::kStatus, 1);
      EXPECT_TRUE(socket.send(request.bytes()));
    }
    return socket;
  }
  void turn() {
    ASSERT_TRUE(loop_.run_once());
    server_.tidy();
  }
  int all() const {
    int sum = 0;
    for (const auto& [id, count] : served_) {
      sum += count;
    }
    return sum;
  }

  test::TempTree tree_;
  test::FakeClock clock_;
  sys::EventLoop loop_ = sys::EventLoop::create().value();
  std::map<std::uint64_t, int> served_;  // by connection
  Server server_{loop_, clock_,
                 [this](Connection& connection, const proto::Message&, std::vector<sys::Fd>) {
                   served_[connection.id()]++;
                   clock_.advance(core::kMillisecond);
                 },
                 [](Connection&) {}, [](Connection&) {}};
};

TEST_F(ServerTurns, ATurnOfAllClientsTogetherIsShort) {
  std::vector<sys::SeqPacket> clients;
  for (int i = 0; i < 4; ++i) {
    clients.push_back(client(10));
  }
  turn();
  EXPECT_EQ(server_.size(), 4U);
  for (int i = 1; i <= 20; ++i) {
    turn();
    EXPECT_EQ(all(), 2 * i) << "two milliseconds";
  }
  for (const auto& [id, count] : served_) {
    EXPECT_EQ(count, 10) << id;
  }
}

TEST_F(ServerTurns, NobodyWaitsForAnotherToHaveEnough) {
  std::vector<sys::SeqPacket> clients;
  for (int i = 0; i < 4; ++i) {
    clients.push_back(client(10));
  }
  turn();
  for (int i = 0; i < 4; ++i) {
    turn();
  }
  EXPECT_EQ(served_.size(), 4U) << "each has had its turn";
}

}  // namespace
}  // namespace procguard::agent
