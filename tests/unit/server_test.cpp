// SPDX-License-Identifier: Apache-2.0
#include "agent/server.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <map>

#include "tests/support/fake_clock.h"
#include "tests/support/temp_tree.h"

namespace procguard::agent {
namespace {

// Each request takes its time.
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
  core::Ns cost_ = core::kMillisecond;
  Server server_{loop_, clock_,
                 [this](Connection& connection, const proto::Message&, std::vector<sys::Fd>) {
                   served_[connection.id()]++;
                   clock_.advance(cost_);
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

// Also if it comes back on another connection.
TEST_F(ServerTurns, AUserHasHalfOfTheTime) {
  constexpr uid_t kUser = 65533;
  if (::geteuid() == 0) {
    ASSERT_EQ(::chmod(tree_.path().c_str(), 0755), 0);
    ASSERT_EQ(::chmod(tree_.at("socket").c_str(), 0666), 0);
    ASSERT_EQ(::seteuid(kUser), 0);
  }
  cost_ = 10 * core::kMillisecond;
  const core::Ns begin = clock_.now();
  const sys::SeqPacket one = client(60);
  turn();
  for (int i = 0; i < 51; ++i) {
    turn();
  }
  EXPECT_EQ(all(), 50);
  EXPECT_EQ(server_.next_due(), begin + core::kSecond);
  const sys::SeqPacket again = client(1);
  turn();
  turn();
  EXPECT_EQ(all(), 50);
  clock_.set(server_.next_due());
  server_.tidy();
  turn();
  EXPECT_EQ(all(), 51);
  if (::getuid() == 0) {
    EXPECT_EQ(::seteuid(0), 0);
  }
}

}  // namespace
}  // namespace procguard::agent
