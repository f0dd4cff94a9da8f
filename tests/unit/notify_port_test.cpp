// SPDX-License-Identifier: Apache-2.0
// What a datagram to NOTIFY_SOCKET says, and who is heard.
#include "cli/notify_port.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <string>

namespace procguard::cli {
namespace {

struct Row {
  std::string datagram;
  bool progress;
  std::string rest;
};

TEST(ReadNotice, SaysWhatIsOursAndWhatIsNot) {
  const Row rows[] = {
      {"WATCHDOG=1", true, ""},
      {"WATCHDOG=1\n", true, ""},
      {"\n\nWATCHDOG=1\n\n", true, ""},
      {"READY=1\nWATCHDOG=1\nSTATUS=a b", true, "READY=1\nSTATUS=a b"},
      {"WATCHDOG=1\nWATCHDOG=trigger", true, ""},
      {"WATCHDOG=trigger", false, ""},
      {"WATCHDOG=11", false, ""},
      {"WATCHDOG_USEC=5", false, ""},
      {" WATCHDOG=1", false, " WATCHDOG=1"},
      {"STATUS=WATCHDOG=1", false, "STATUS=WATCHDOG=1"},
      {"EXTEND_TIMEOUT_USEC=9", false, "EXTEND_TIMEOUT_USEC=9"},
      {"", false, ""},
      {"\n", false, ""},
      {std::string("WATCHDOG=1\0", 11), false, ""},
  };
  for (const Row& row : rows) {
    const Notice notice = read_notice(row.datagram);
    EXPECT_EQ(notice.progress, row.progress) << row.datagram;
    EXPECT_EQ(notice.rest, row.rest) << row.datagram;
  }
}

void send_to(const std::string& name, const std::string& text) {
  sys::Fd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, name.data(), name.size());
  address.sun_path[0] = '\0';
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
  ASSERT_EQ(::sendto(fd.get(), text.data(), text.size(), 0,
                     reinterpret_cast<const sockaddr*>(&address), length),
            static_cast<ssize_t>(text.size()));
}

TEST(NotifyPort, AsksWhoTheSenderIs) {
  auto port = NotifyPort::open("");
  ASSERT_TRUE(port.ok());
  ASSERT_EQ(port->address()[0], '@');
  EXPECT_FALSE(port->take([](pid_t, uid_t) { return true; })) << "nothing has come";
  for (const bool member : {true, false}) {
    send_to(port->address(), "WATCHDOG=1");
    pid_t pid = 0;
    uid_t uid = 0;
    EXPECT_EQ(port->take([&](pid_t sender, uid_t user) {
      pid = sender;
      uid = user;
      return member;
    }),
              member);
    EXPECT_EQ(pid, ::getpid());
    EXPECT_EQ(uid, ::getuid());
  }
}

TEST(NotifyPort, TakesSomeAtATime) {
  auto port = NotifyPort::open("");
  ASSERT_TRUE(port.ok());
  send_to(port->address(), std::string(8000, 'x'));  // longer than a datagram may be
  send_to(port->address(), "READY=1");
  send_to(port->address(), "WATCHDOG=1");
  EXPECT_TRUE(port->take([](pid_t, uid_t) { return true; }));
  EXPECT_FALSE(port->take([](pid_t, uid_t) { return true; })) << "all was taken";
}

TEST(NotifyPort, EachHasAnAddressOfItsOwn) {
  auto one = NotifyPort::open("");
  auto other = NotifyPort::open("");
  ASSERT_TRUE(one.ok() && other.ok());
  EXPECT_NE(one->address(), other->address());
}

}  // namespace
}  // namespace procguard::cli
