// SPDX-License-Identifier: Apache-2.0
// Clients send descriptors whose close takes its time: the agent goes on meanwhile.
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>

#include "sys/pidfd.h"
#include "sys/seqpacket.h"
#include "tests/agent/as_user.h"
#include "tests/support/lingering_socket.h"

namespace procguard::test {
namespace {

using proto::Op;
using proto::Status;

constexpr int kLingers = 20;  // seconds
constexpr auto kMeanwhile = 10s;

class AgentDescriptors : public AsUser {
 protected:
  static proto::Bytes attach_record() {
    Wanted wanted = process_guard().timeout(1h);
    wanted.body.flags |= proto::kHasFd;
    proto::Writer request(Op::kAttach, 1);
    request.add(wanted.body);
    return request.bytes();
  }
  // A user's connection, to send on it what no client would.
  sys::SeqPacket attacker() {
    const auto client = connect_as(kUser).value();
    return sys::SeqPacket(sys::duplicate_fd(client.fd()).value());
  }
  // The agent gets the last copies of them. (A stopped thread that lingers gives up: once a test.)
  void give(std::vector<LingeringSocket>& slow, const sys::SeqPacket& to,
            std::span<const std::byte> record) {
    std::vector<int> fds;
    for (const LingeringSocket& each : slow) {
      fds.push_back(each.fd());
    }
    EXPECT_EQ(::kill(agent_->pid(), SIGSTOP), 0);
    const bool sent = to.send(record, fds).ok();
    for (LingeringSocket& each : slow) {
      if (sent) {
        each.leave();
      }
    }
    EXPECT_EQ(::kill(agent_->pid(), SIGCONT), 0);
    ASSERT_TRUE(sent);
  }
  static std::vector<LingeringSocket> lingering(std::size_t count) {
    std::vector<LingeringSocket> slow;
    for (std::size_t i = 0; i < count; ++i) {
      slow.emplace_back(kLingers);
    }
    return slow;
  }
  // How it is answered; nothing: not at all.
  std::optional<Status> status_of(uid_t uid) {
    auto client = connect_as(uid).value();
    proto::Writer request(Op::kStatus, client.request());
    auto said = client.call(request);
    said = said ? said : client.next();  // it may be told before it has asked
    return said ? std::optional(proto::refusal(said.value()).status) : std::nullopt;
  }
  // Somebody else's guard trips in time.
  void expect_guarded() {
    const auto begin = std::chrono::steady_clock::now();
    Sleeper target;
    attach(process_guard().timeout(300ms), target.pid());
    EXPECT_EQ(target.wait(), SIGKILL);
    EXPECT_LT(std::chrono::steady_clock::now() - begin, kMeanwhile);
  }
};

TEST_F(AgentDescriptors, OneThatLingersWhenItIsClosed) {
  auto slow = lingering(1);
  const sys::SeqPacket mine = attacker();
  give(slow, mine, attach_record());
  expect_guarded();
}

TEST_F(AgentDescriptors, MoreThanARecordMayHave) {
  auto slow = lingering(proto::kMaxFds + 1);
  const sys::SeqPacket mine = attacker();
  give(slow, mine, attach_record());
  expect_guarded();
}

// The first record ends the connection: the second is never read.
TEST_F(AgentDescriptors, InARecordThatNobodyReads) {
  auto slow = lingering(1);
  const sys::SeqPacket mine = attacker();
  ASSERT_EQ(::kill(agent_->pid(), SIGSTOP), 0);
  ASSERT_TRUE(mine.send(proto::Bytes(3)));
  give(slow, mine, attach_record());
  expect_guarded();
}

// More than the agent has threads for: it does not take any more from this user.
TEST_F(AgentDescriptors, WhoSendsTooManyIsNotHeard) {
  auto slow = lingering(200);
  const sys::SeqPacket mine = attacker();
  give(slow, mine, attach_record());
  EXPECT_TRUE(wait_until([&] { return status_of(kUser) == Status::kBusy; }));
  EXPECT_EQ(status_of(kOther), Status::kOk);
  expect_guarded();
  slow.clear();  // nothing lingers any more
  EXPECT_TRUE(wait_until([&] { return status_of(kUser) == Status::kOk; }));
}

// A record without bytes is no end of the connection, and may have a descriptor.
TEST_F(AgentDescriptors, ARecordWithoutBytesIsRefused) {
  auto slow = lingering(1);
  const sys::SeqPacket mine = attacker();
  give(slow, mine, {});
  proto::Bytes answer(proto::kMaxRecord);
  const auto said = mine.receive(answer, 0);
  ASSERT_TRUE(said.ok());
  EXPECT_NE(said->bytes, 0U);
  expect_guarded();
}

// What only looks like a pidfd, a cgroup or a page.
TEST_F(AgentDescriptors, OtherKindsAreRefused) {
  const sys::Fd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const auto process = refused_fd(client(), process_guard().timeout(1h), null.get());
  EXPECT_EQ(process.status, Status::kInvalid);
  EXPECT_EQ(process.text, "the descriptor of the target: expected a pidfd");
  const auto cgroup = refused_fd(client(), cgroup_guard().timeout(1h), null.get());
  EXPECT_EQ(cgroup.status, Status::kInvalid);
  EXPECT_EQ(cgroup.text, "the descriptor of the target: expected the directory of a v2 cgroup");
}

}  // namespace
}  // namespace procguard::test
