// SPDX-License-Identifier: Apache-2.0
// Clients that do not do their part: others are served meanwhile.
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <random>
#include <thread>

#include "proto/page.h"
#include "tests/agent/as_user.h"

namespace procguard::test {
namespace {

using proto::Op;
using proto::Status;

// Generous: a round trip is some tens of microseconds where nobody disturbs.
constexpr auto kServed = 5s;

class AgentClients : public AsUser {
 protected:
  // Somebody else arms and releases a guard, in good time.
  void expect_served(const char* when) {
    SCOPED_TRACE(when);
    const auto begin = std::chrono::steady_clock::now();
    const std::uint64_t id = attach(process_guard().timeout(1h), target_.pid());
    EXPECT_NE(id, 0U);
    EXPECT_EQ(act(Op::kRelease, id).status, Status::kOk);
    EXPECT_LT(std::chrono::steady_clock::now() - begin, kServed);
  }
  template <typename Body>
  static bool ask(const proto::Client& client, Op op, const Body& body, std::uint16_t flags = 0) {
    proto::Writer request(op, 7, flags);
    request.add(body);
    return ::send(client.fd(), request.bytes().data(), request.bytes().size(),
                  MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
  }

  // As the agent counts them.
  std::size_t connections() {
    const auto reply = client().call(status_);
    const auto status = reply ? reply->one<proto::StatusBody>() : std::nullopt;
    return status ? status->connections : 0;
  }

  Sleeper target_;
  proto::Writer status_{Op::kStatus, 1};
};

TEST_F(AgentClients, WhoFollowsAndNeverReads) {
  std::vector<proto::Client> deaf;
  for (int i = 0; i < 30; ++i) {
    deaf.push_back(connect_as(i % 2 == 0 ? 0 : kUser).value());
    EXPECT_TRUE(ask(deaf.back(), Op::kEvents, proto::EventsBody{}, proto::kFollow));
  }
  for (int i = 0; i < 3000; ++i) {  // far more than the sockets hold
    const std::uint64_t id = attach(process_guard().timeout(1h), target_.pid());
    ASSERT_EQ(act(Op::kRelease, id).status, Status::kOk);
  }
  expect_served("with followers that do not read");
  // One that reads at last gets what its socket held and then what the agent still knows.
  std::uint64_t last = 0;
  std::uint64_t seen = 0;
  while (last < events().back().seq) {
    const auto record = deaf[0].next();
    ASSERT_TRUE(record.ok()) << record.error().message();
    const auto some = record->as<proto::EventBody>().value();
    for (const proto::EventBody& each : some) {
      EXPECT_GT(each.seq, last) << "in order";
      last = each.seq;
      ++seen;
    }
  }
  EXPECT_GE(seen, 6000U) << "nothing of it was lost: the agent keeps that many";
}

TEST_F(AgentClients, WhoAsksAndNeverReads) {
  for (int i = 0; i < 200; ++i) {
    attach(process_guard().timeout(1h), target_.pid());
  }
  std::vector<proto::Client> deaf;
  for (int i = 0; i < 30; ++i) {
    deaf.push_back(connect());
    while (ask(deaf.back(), Op::kList, proto::ListBody{})) {
    }
    EXPECT_EQ(errno, EAGAIN) << "it is not read from any more";
  }
  expect_served("with clients that ask without end and do not read");
}

TEST_F(AgentClients, WhoStopsInTheMiddle) {
  const std::uint64_t id = attach(process_guard().timeout(1h), target_.pid());
  std::vector<proto::Client> left;
  for (int i = 0; i < 40; ++i) {
    proto::Client one = connect();
    ask(one, Op::kShow, proto::RefBody{.id = id, .name = {}});  // two records come
    switch (i % 4) {
      case 0:  // closed with the replies unread
        break;
      case 1:  // one of the two is read
        EXPECT_TRUE(one.next().ok());
        left.push_back(std::move(one));
        break;
      case 2:  // its half of the line is closed
        ::shutdown(one.fd(), SHUT_WR);
        left.push_back(std::move(one));
        break;
      default: {  // less than a header
        (void)!::send(one.fd(), "abc", 3, MSG_NOSIGNAL);
        left.push_back(std::move(one));
        break;
      }
    }
  }
  expect_served("with clients that stopped in the middle");
}

// What a request was about is done, even if nobody waits for the answer.
TEST_F(AgentClients, WhoLeavesRightAfterAsking) {
  const std::uint64_t id = attach(process_guard().timeout(1h), target_.pid());
  {
    const proto::Client one = connect();
    EXPECT_TRUE(ask(one, Op::kRelease, proto::RefBody{.id = id, .name = {}}));
  }
  EXPECT_TRUE(event(id, PG_EVENT_RELEASED));
}

TEST_F(AgentClients, ThousandsOfConnections) {
  rlimit files{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &files), 0);
  const rlimit before = files;
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
  std::vector<proto::Client> many;
  std::size_t refused = 0;
  while (refused < 100 && many.size() < 3000) {
    auto one = connect();
    pollfd unasked{.fd = one.fd(), .events = POLLIN, .revents = 0};
    ASSERT_TRUE(
        wait_until([&] { return connections() == many.size() + 2 || ::poll(&unasked, 1, 0) > 0; }));
    if (unasked.revents == 0) {
      many.push_back(std::move(one));
      continue;
    }
    const auto said = one.next();
    ASSERT_TRUE(said.ok()) << said.error().message();
    EXPECT_EQ(proto::refusal(said.value()).status, Status::kBusy);
    EXPECT_EQ(proto::refusal(said.value()).text, "too many connections");
    EXPECT_EQ(one.next().error().code(), ECONNRESET);
    ++refused;
  }
  EXPECT_EQ(refused, 100U);
  expect_served("when no more connections are taken");
  many.clear();
  EXPECT_TRUE(wait_until([this] { return connections() == 1; }));
  EXPECT_EQ(proto::refusal(connect().call(status_).value()).status, Status::kOk)
      << "there is room again";
  ::setrlimit(RLIMIT_NOFILE, &before);
}

TEST_F(AgentClients, AUserHasFewerConnectionsThanRoot) {
  std::vector<proto::Client> many;
  for (int i = 0; i < 64; ++i) {
    many.push_back(connect_as(kUser).value());
  }
  auto one_more = connect_as(kUser);
  const auto said = one_more->next();
  ASSERT_TRUE(said.ok());
  EXPECT_EQ(proto::refusal(said.value()).text, "too many connections");
  expect_served("root");
  ask_as(kOther);
  EXPECT_TRUE(list().empty()) << "another user is served";
}

TEST_F(AgentClients, StormOfConnects) {
  std::atomic<bool> over{false};
  std::vector<std::thread> storm;
  for (int i = 0; i < 3; ++i) {
    storm.emplace_back([&] {
      while (!over) {
        static_cast<void>(proto::Client::connect(place_.socket));
      }
    });
  }
  for (int i = 0; i < 50; ++i) {
    expect_served("in a storm of connects");
  }
  over = true;
  for (std::thread& each : storm) {
    each.join();
  }
}

TEST_F(AgentClients, WhoAsksTooOften) {
  std::vector<proto::Client> users;
  for (int i = 0; i < 5; ++i) {
    users.push_back(connect_as(kUser).value());
  }
  std::size_t busy = 0;
  for (int i = 0; i < 3000 && busy < users.size(); ++i) {
    for (proto::Client& each : users) {
      proto::Writer request(Op::kStatus, each.request());
      const auto said = each.call(request);
      ASSERT_TRUE(said.ok());
      if (const auto refusal = proto::refusal(said.value()); refusal.status != Status::kOk) {
        EXPECT_EQ(refusal.status, Status::kBusy);
        EXPECT_EQ(refusal.text, "too many requests a second: this one was dropped");
        ++busy;
      }
    }
  }
  expect_served("with users that ask too often");
  users.clear();  // in the pause
  expect_served("when they have left");
}

// ---- session pages

struct PageRow {
  const char* name;
  std::size_t size;
  int seals;
  std::size_t descriptors;  // copies of it that are sent
  const char* refused;      // nullptr: it is not
};

constexpr const char* kExpected =
    "a session's descriptor: expected a memfd of 65536 bytes, sealed against shrinking and "
    "growing";

class AgentPages : public AgentClients, public testing::WithParamInterface<PageRow> {};

sys::Fd memfd_of(std::size_t size, int seals) {
  sys::Fd fd(::memfd_create("page", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_EQ(::ftruncate(fd.get(), static_cast<off_t>(size)), 0);
  EXPECT_EQ(::fcntl(fd.get(), F_ADD_SEALS, seals), 0);
  return fd;
}

Result<proto::Message> open_session(proto::Client& client, const std::vector<int>& fds) {
  proto::Writer request(Op::kSession, client.request());
  request.add(proto::SessionBody{});
  return client.call(request, fds);
}

TEST_P(AgentPages, OnlyWhatCannotShrinkIsMapped) {
  const PageRow& row = GetParam();
  const sys::Fd page = memfd_of(row.size, row.seals);
  const auto said = open_session(client(), std::vector<int>(row.descriptors, page.get()));
  ASSERT_TRUE(said.ok());
  EXPECT_EQ(proto::refusal(said.value()).text, row.refused == nullptr ? "" : row.refused);
  expect_served("afterwards");
}

INSTANTIATE_TEST_SUITE_P(
    Rows, AgentPages,
    testing::Values(
        PageRow{"right", sizeof(proto::Page), F_SEAL_SHRINK | F_SEAL_GROW, 1, nullptr},
        PageRow{"unsealed", sizeof(proto::Page), 0, 1, kExpected},
        PageRow{"may_shrink", sizeof(proto::Page), F_SEAL_GROW, 1, kExpected},
        PageRow{"may_grow", sizeof(proto::Page), F_SEAL_SHRINK, 1, kExpected},
        PageRow{"empty", 0, F_SEAL_SHRINK | F_SEAL_GROW, 1, kExpected},
        PageRow{"too_small", sizeof(proto::Page) - 1, F_SEAL_SHRINK | F_SEAL_GROW, 1, kExpected},
        PageRow{"too_large", sizeof(proto::Page) + 1, F_SEAL_SHRINK | F_SEAL_GROW, 1, kExpected},
        PageRow{"none", sizeof(proto::Page), F_SEAL_SHRINK, 0,
                "session: the record does not have the bodies of this request"},
        PageRow{"two", sizeof(proto::Page), F_SEAL_SHRINK, 2,
                "session: the record does not have the bodies of this request"}),
    [](const auto& row) { return std::string(row.param.name); });

TEST_F(AgentClients, OneSessionAProcessAndOfItsOwnUser) {
  const sys::Fd page = memfd_of(sizeof(proto::Page), F_SEAL_SHRINK | F_SEAL_GROW);
  auto first = std::make_optional(connect());
  ASSERT_EQ(proto::refusal(open_session(*first, {page.get()}).value()).text, "");
  proto::Client second = connect();
  const auto busy = proto::refusal(open_session(second, {page.get()}).value());
  EXPECT_EQ(busy.status, Status::kBusy);
  EXPECT_NE(busy.text.find("has a session on another connection"), std::string::npos) << busy.text;
  first.reset();
  EXPECT_TRUE(wait_until([&] {
    return proto::refusal(open_session(second, {page.get()}).value()).status == Status::kOk;
  }));
  // Its real and saved uid are root's, who it says to be is not.
  auto other = connect_as(kUser).value();
  const auto refused = proto::refusal(open_session(other, {page.get()}).value());
  EXPECT_EQ(refused.status, Status::kNotPermitted);
  EXPECT_NE(refused.text.find("of real uid 0, saved uid 0"), std::string::npos) << refused.text;
}

TEST_F(AgentClients, APageThatChangesWhileItIsRead) {
  const sys::Fd page = memfd_of(sizeof(proto::Page), F_SEAL_SHRINK | F_SEAL_GROW);
  auto* words = static_cast<std::uint32_t*>(
      ::mmap(nullptr, sizeof(proto::Page), PROT_READ | PROT_WRITE, MAP_SHARED, page.get(), 0));
  ASSERT_NE(words, MAP_FAILED);
  constexpr std::size_t kWords = sizeof(proto::Page) / sizeof(std::uint32_t);
  constexpr std::size_t kHeader = sizeof(proto::PageHeader) / sizeof(std::uint32_t);
  std::mt19937 random(1);
  for (std::size_t i = 0; i < kWords; ++i) {
    words[i] = i % 2 == 0 ? static_cast<std::uint32_t>(random()) : 1;
  }
  words[offsetof(proto::PageHeader, used) / sizeof(std::uint32_t)] = ~0U;  // and more
  proto::Client session = connect();
  ASSERT_EQ(proto::refusal(open_session(session, {page.get()}).value()).text, "");
  std::atomic<bool> over{false};
  std::thread writer([&] {
    std::mt19937 other(2);
    while (!over) {
      __atomic_store_n(&words[kHeader + other() % (kWords - kHeader)],
                       static_cast<std::uint32_t>(other() % 4), __ATOMIC_RELAXED);
    }
  });
  std::size_t rows = 0;
  for (int i = 0; i < 100; ++i) {
    std::uint64_t last = 0;
    for (const proto::RowBody& row : list()) {
      EXPECT_GT(row.guard.id, last);
      last = row.guard.id;
      EXPECT_EQ(row.session_pid, static_cast<unsigned>(::getpid()));
      EXPECT_EQ(row.guard.owner_uid, 0U);
      EXPECT_LE(row.guard.steps, std::uint32_t{PG_STEPS});
      ++rows;
    }
  }
  over = true;
  writer.join();
  ::munmap(words, sizeof(proto::Page));
  EXPECT_GT(rows, 0U);
  expect_served("afterwards");
}

}  // namespace
}  // namespace procguard::test
