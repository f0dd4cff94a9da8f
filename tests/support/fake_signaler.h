// SPDX-License-Identifier: Apache-2.0
// FakeSignaler: writes down who would have been signalled: "42 INT", "42/43 INT" for a thread,
// "cgroup.kill /path".
#pragma once

#include <cerrno>
#include <functional>
#include <map>
#include <string>

#include "core/signals.h"
#include "engine/signaler.h"
#include "tests/support/fake_source.h"

namespace procguard::test {

class FakeSignaler final : public engine::Signaler {
 public:
  FakeSignaler(const FakeSource& source, Journal& journal) : source_(source), journal_(journal) {}

  std::map<pid_t, int> errors;  // errno by process
  int cgroup_error = 0;         // errno of kill_cgroup()
  // Called for every signal that was sent.
  std::function<void(pid_t pid, int signal)> on_signal;

  Result<void> send(int pidfd, int signal) override {
    const pid_t pid = source_.pid_of(pidfd);
    return deliver(pid, std::to_string(pid), signal);
  }
  Result<void> send_thread(pid_t pid, pid_t tid, int signal) override {
    return deliver(pid, std::to_string(pid) + "/" + std::to_string(tid), signal);
  }
  Result<void> kill_cgroup(const std::string& path, std::uint64_t) override {
    if (cgroup_error != 0) {
      return Error::system("cgroup.kill", cgroup_error);
    }
    journal_.push_back("cgroup.kill " + path);
    return {};
  }

 private:
  Result<void> deliver(pid_t pid, const std::string& whom, int signal) {
    if (auto error = errors.find(pid); error != errors.end()) {
      return Error::system("signal", error->second);
    }
    journal_.push_back(whom + " " + core::signal_name(signal));
    if (on_signal) {
      on_signal(pid, signal);
    }
    return {};
  }

  const FakeSource& source_;
  Journal& journal_;
};

}  // namespace procguard::test
