// SPDX-License-Identifier: Apache-2.0
// Guard events are lines that people can read in the kernel's trace pipe.
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstring>
#include <string>

#include "core/event_text.h"
#include "tests/bpf/watched.h"
#include "tests/support/temp_tree.h"

namespace procguard::test {
namespace {

class TracePipe : public Watched {
 protected:
  // A reader of the trace pipe, which it mounts where nobody else sees it. It says 1 when it
  // listens and, told once, whether a line with `text` has come.
  static Peer reader(const std::string& directory, const std::string& text) {
    return Peer([directory, text](Script& line) {
      const bool mounted = ::unshare(CLONE_NEWNS) == 0 &&
                           ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                           ::mount("tracefs", directory.c_str(), "tracefs", 0, nullptr) == 0;
      const int pipe = ::open((directory + "/trace_pipe").c_str(), O_RDONLY | O_NONBLOCK);
      line.say(mounted && pipe >= 0 ? 1 : 0);
      line.hear();
      std::string seen;
      for (int i = 0; i < 100 && seen.find(text) == std::string::npos; ++i) {
        pollfd ready{pipe, POLLIN, 0};
        ::poll(&ready, 1, 50);
        std::array<char, 65536> buffer{};
        const ssize_t size = ::read(pipe, buffer.data(), buffer.size());
        if (size > 0) {
          seen.append(buffer.data(), static_cast<std::size_t>(size));
        }
      }
      line.say(seen.find(text) != std::string::npos ? 1 : 0);
    });
  }
  static pg_event event(pg_event_kind kind, const std::string& name) {
    pg_event made{};
    made.abi = PG_ABI;
    made.kind = kind;
    made.guard = 7;
    made.resource = PG_MEMORY;
    made.limit = 64 * kMiB;
    made.observed = 65 * kMiB;
    made.pid = 1234;
    made.signal = SIGTERM;
    made.action = PG_ACTION_SIGNAL;
    made.result = PG_RESULT_SENT;
    std::strncpy(made.name, name.c_str(), sizeof(made.name) - 1);
    return made;
  }
};

TEST_F(TracePipe, ShowsEachEventAsALine) {
  const TempTree directory;
  const std::string name = "trace-test-" + std::to_string(::getpid());
  const auto last = event(PG_EVENT_RELEASED, name);
  Peer peer = reader(directory.path(), "procguard: " + core::event_text(last) + "\n");
  if (peer.hear() != 1) {
    GTEST_SKIP() << "tracefs cannot be mounted";
  }
  for (const auto kind : {PG_EVENT_ARMED, PG_EVENT_OVER, PG_EVENT_STEP}) {
    source().trace(event(kind, name));
  }
  source().trace(last);
  EXPECT_EQ(peer.ask(), 1) << "no line \"" << core::event_text(last) << "\"";
}

TEST_F(TracePipe, CutsWhatIsTooLong) {
  const TempTree directory;
  const std::string name = "long-test-" + std::to_string(::getpid());
  Peer peer = reader(directory.path(), name);
  if (peer.hear() != 1) {
    GTEST_SKIP() << "tracefs cannot be mounted";
  }
  programs().trace(name + std::string(4096, 'x') + "%s%n");
  EXPECT_EQ(peer.ask(), 1);
}

TEST_F(TracePipe, TakesNoFormatFromTheText) {
  const TempTree directory;
  const std::string text = "format-test-" + std::to_string(::getpid()) + " %s %d %p end";
  Peer peer = reader(directory.path(), text);
  if (peer.hear() != 1) {
    GTEST_SKIP() << "tracefs cannot be mounted";
  }
  programs().trace(text);
  EXPECT_EQ(peer.ask(), 1);
}

}  // namespace
}  // namespace procguard::test
