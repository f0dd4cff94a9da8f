// SPDX-License-Identifier: Apache-2.0
// Tells its NOTIFY_SOCKET something, as sd_notify(3) does.
//   notifier [--text TEXT] [--every SEC] [--times N] [--seconds SEC]
// Prints "to NAME", the socket, then sends TEXT (default WATCHDOG=1; "\n" in it is a line end) N
// times (default 1) SEC apart, prints "told", sleeps for --seconds (default 0) and ends with 0.
// Ends with 3 if it has no socket.
#include <sys/socket.h>
#include <sys/un.h>

#include <cstddef>

#include "common.h"

namespace {

using namespace programs;

std::string unescaped(std::string text) {
  for (size_t at = 0; (at = text.find("\\n", at)) != std::string::npos; ++at) {
    text.replace(at, 2, "\n");
  }
  return text;
}

}  // namespace

int main(int argc, char** argv) {
  std::string text = "WATCHDOG=1";
  double every = 0.1;
  double seconds = 0;
  double times = 1;
  Args args(argc, argv);
  std::string v;
  while (args.more()) {
    if (args.value("--text", &v)) {
      text = unescaped(v);
    } else if (args.value("--every", &v)) {
      every = parse_number(v);
    } else if (args.value("--times", &v)) {
      times = parse_number(v);
    } else if (args.value("--seconds", &v)) {
      seconds = parse_number(v);
    } else {
      usage(args.next());
    }
  }
  limit_life();
  const char* name = getenv("NOTIFY_SOCKET");
  if (name == nullptr) {
    return 3;
  }
  say("to %s\n", name);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const size_t length = strnlen(name, sizeof(address.sun_path) - 1);
  memcpy(address.sun_path, name, length);
  if (name[0] == '@') {
    address.sun_path[0] = '\0';
  }
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  for (int i = 0; i < static_cast<int>(times); ++i) {
    sleep_for(i == 0 ? 0.0 : every);
    sendto(fd, text.data(), text.size(), 0, reinterpret_cast<const sockaddr*>(&address),
           static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length));
  }
  say("told\n");
  sleep_for(seconds);
  return 0;
}
