// SPDX-License-Identifier: Apache-2.0
#include "tests/support/agent_process.h"

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>

#include "proto/client.h"
#include "tests/support/processes.h"

namespace procguard::test {
namespace {

using namespace std::chrono_literals;

std::vector<std::string> command(const AgentPlace& place, const std::vector<std::string>& more) {
  std::vector<std::string> words{procguard_binary(), "agent",     "--socket",
                                 place.socket,       "--pin-dir", place.pins};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

}  // namespace

AgentPlace::AgentPlace() {
  char path[] = "/tmp/procguard-test-XXXXXX";
  const char* made = ::mkdtemp(path);
  directory = made == nullptr ? "" : made;
  socket = directory + "/agent.sock";
  pins = "/sys/fs/bpf/procguard-test-" + directory.substr(directory.rfind('-') + 1);
}

AgentProcess::AgentProcess(const AgentPlace& place, std::vector<std::string> more)
    : place_(place),
      process_({.argv = command(place, more),
                .deadline = 600s,
                // What it says is read at its end.
                .before_exec = [] { ::fcntl(STDERR_FILENO, F_SETPIPE_SZ, 1 << 20); }}) {}

bool AgentProcess::ready() {
  return wait_until([this] { return proto::Client::connect(place_.socket).ok(); }, 20s);
}

}  // namespace procguard::test
