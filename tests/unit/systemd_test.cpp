// SPDX-License-Identifier: Apache-2.0
#include "sys/systemd.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "sys/fd.h"
#include "tests/support/temp_tree.h"

namespace procguard::sys {
namespace {

// A variable of the environment, for the length of a test.
class Variable {
 public:
  Variable(const char* name, const std::string& value) : name_(name) {
    ::setenv(name, value.c_str(), 1);
  }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;
  ~Variable() { ::unsetenv(name_); }

 private:
  const char* name_;
};

// What a service manager does: a datagram socket at a path.
class Manager {
 public:
  explicit Manager(const std::string& path) : fd_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
    const timeval patience{.tv_sec = 10, .tv_usec = 0};
    EXPECT_EQ(::bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
  }
  std::string heard() const {
    std::array<char, 256> text{};
    const ssize_t length = ::recv(fd_.get(), text.data(), text.size(), 0);
    return length < 0 ? "nothing" : std::string(text.data(), static_cast<std::size_t>(length));
  }

 private:
  Fd fd_;
};

TEST(Systemd, TellsTheServiceManager) {
  const test::TempTree tree;
  const Manager manager(tree.at("notify"));
  const Variable variable("NOTIFY_SOCKET", tree.at("notify"));
  for (const char* state : {"READY=1", "STATUS=3 guards", "WATCHDOG=1\nSTATUS=x"}) {
    notify_manager(state);
    EXPECT_EQ(manager.heard(), state);
  }
}

TEST(Systemd, NobodyListens) {
  notify_manager("READY=1");
  const Variable variable("NOTIFY_SOCKET", "/nowhere/notify");
  notify_manager("READY=1");
}

TEST(Systemd, Watchdog) {
  struct Row {
    std::optional<std::string> usec;
    std::string pid;
    std::uint64_t ns;
  };
  const std::string own = std::to_string(::getpid());
  const Row rows[] = {
      {"3000000", own, 3'000'000'000},
      {"3000000", "1", 0},  // another process is watched
      {"soon", own, 0},
      {"0", own, 0},
      {"18446744073709551614", own, 0},
      {std::nullopt, own, 0},
  };
  for (const Row& row : rows) {
    const Variable pid("WATCHDOG_PID", row.pid);
    std::optional<Variable> usec;
    if (row.usec) {
      usec.emplace("WATCHDOG_USEC", *row.usec);
    }
    EXPECT_EQ(watchdog_ns(), row.ns) << row.usec.value_or("none") << " of " << row.pid;
  }
}

// The library itself takes everything where no journal runs.
TEST(Systemd, JournalIsThereOrRefused) {
  const bool runs = ::access("/run/systemd/journal/socket", W_OK) == 0;
  const auto available = journal_available();
  EXPECT_EQ(available.ok(), runs);
  const auto sent = journal_send({{"MESSAGE", "a test of procguard"}, {"PRIORITY", "7"}});
  EXPECT_EQ(sent.ok(), runs);
  if (!runs) {
    EXPECT_NE(available.error().message().find("journal"), std::string::npos);
    EXPECT_NE(sent.error().code(), 0);
  }
}

}  // namespace
}  // namespace procguard::sys
