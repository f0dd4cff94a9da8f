// SPDX-License-Identifier: Apache-2.0
// The connection to an agent that hangs: no call waits longer than it was told to.
#include "proto/client.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>

#include "sys/fd.h"
#include "sys/monotonic_clock.h"
#include "tests/support/temp_tree.h"

namespace procguard::proto {
namespace {

constexpr core::Ns kPatience = 100 * core::kMillisecond;
constexpr core::Ns kFarTooLong = 5 * core::kSecond;

// Listens with room for one connection, and accepts none.
class Client : public testing::Test {
 protected:
  void SetUp() override {
    listener_.reset(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path().copy(address.sun_path, sizeof(address.sun_path) - 1);
    ASSERT_EQ(::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)),
              0);
    ASSERT_EQ(::listen(listener_.get(), 0), 0);
  }
  std::string path() const { return directory_.at("agent.sock"); }

  test::TempTree directory_;
  sys::Fd listener_;
  sys::MonotonicClock clock_;
};

TEST_F(Client, ThatCannotConnectSaysSo) {
  const auto first = proto::Client::connect(path(), kPatience);
  ASSERT_TRUE(first.ok()) << first.error().message();
  const core::Ns began = clock_.now();
  const auto second = proto::Client::connect(path(), kPatience);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code(), EAGAIN);
  EXPECT_EQ(second.error().message(), "the agent does not answer");
  EXPECT_LT(clock_.now() - began, kFarTooLong);
}

TEST_F(Client, WithoutAnAnswerSaysSo) {
  auto client = proto::Client::connect(path(), kPatience);
  ASSERT_TRUE(client.ok()) << client.error().message();
  Writer request(Op::kStatus, client->request());
  const core::Ns began = clock_.now();
  const auto reply = client->call(request);
  ASSERT_FALSE(reply.ok());
  EXPECT_EQ(reply.error().code(), EAGAIN);
  EXPECT_LT(clock_.now() - began, kFarTooLong);
}

TEST_F(Client, OfAnotherUserSaysSo) {
  if (::geteuid() != 0) {
    GTEST_SKIP() << "needs root to be another user";
  }
  ASSERT_EQ(::seteuid(1), 0);
  EXPECT_EQ(::listen(listener_.get(), 4), 0);  // who listens is who serves
  ASSERT_EQ(::seteuid(0), 0);
  const auto client = proto::Client::connect(path(), kPatience);
  ASSERT_FALSE(client.ok());
  EXPECT_EQ(client.error().code(), proto::Client::kServedByAnother);
  EXPECT_NE(client.error().message().find("served by uid 1 "), std::string::npos)
      << client.error().message();
}

TEST_F(Client, OfNobodySaysSo) {
  EXPECT_EQ(proto::Client::connect(directory_.at("none"), kPatience).error().code(), ENOENT);
}

}  // namespace
}  // namespace procguard::proto
