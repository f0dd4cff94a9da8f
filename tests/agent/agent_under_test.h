// SPDX-License-Identifier: Apache-2.0
// A real agent of its own for a test: private socket and pins, ended and torn down at the end. And
// what tests ask of it, over the real protocol.
#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/ladder.h"
#include "proto/client.h"
#include "sys/fd.h"
#include "tests/support/agent_process.h"
#include "tests/support/processes.h"
#include "tests/support/subprocess.h"

namespace procguard::test {

using namespace std::chrono_literals;

// A request that may be changed before it is sent.
struct Wanted {
  Wanted& timeout(std::chrono::nanoseconds limit) { return at(PG_TIMEOUT, limit.count()); }
  Wanted& cpu(std::chrono::nanoseconds limit) { return at(PG_CPU, limit.count()); }
  Wanted& memory(std::uint64_t bytes) { return at(PG_MEMORY, static_cast<std::int64_t>(bytes)); }
  Wanted& grace(std::uint64_t ns) {
    body.grace_ns = ns;
    return *this;
  }
  Wanted& ladder(const char* text);
  Wanted& name(const std::string& text);
  Wanted& flags(std::uint32_t more) {
    body.flags |= more;
    return *this;
  }
  proto::AttachBody body{};

 private:
  Wanted& at(pg_resource resource, std::int64_t limit) {
    body.limit[resource] = static_cast<std::uint64_t>(limit);
    return *this;
  }
};
Wanted process_guard();  // scope process, ladder KILL
Wanted tree_guard();
Wanted cgroup_guard();
Wanted thread_guard(pid_t tid);

class AgentTest : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  void start_agent(std::vector<std::string> more = {});
  void kill_agent() {
    agent_->kill();
    client_.reset();
  }
  proto::Client& client();  // connected when first used
  proto::Client connect();

  // The id; 0 and a failed expectation if it was refused.
  std::uint64_t attach(const Wanted& wanted, pid_t pid);
  std::uint64_t attach_cgroup(const Wanted& wanted, const std::string& path);
  // What it was refused with; status kOk: it was not.
  proto::Refusal refused(const Wanted& wanted, pid_t pid);
  proto::Refusal refused_fd(proto::Client& client, const Wanted& wanted, int fd);

  std::optional<proto::ShowBody> show(std::uint64_t id);
  std::vector<proto::RowBody> list(bool ended = false);
  std::vector<proto::EventBody> events(std::uint64_t guard = 0);
  // Waits for an event of this kind.
  std::optional<proto::EventBody> event(std::uint64_t guard, std::uint32_t kind,
                                        std::chrono::seconds deadline = 20s);
  // Of one process. A limit is what a target has and more: forks of this binary begin with a lot
  // where it is instrumented.
  static std::uint64_t rss(pid_t pid);
  proto::Refusal act(proto::Op op, std::uint64_t id);
  proto::Refusal set(std::uint64_t id, pg_resource resource, std::uint64_t limit);

  AgentPlace place_;
  std::unique_ptr<AgentProcess> agent_;
  std::optional<proto::Client> client_;
};

// A process that only sleeps; killed and reaped at the end.
class Sleeper {
 public:
  Sleeper();
  explicit Sleeper(const std::function<void()>& body);  // in the child
  Sleeper(Sleeper&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}
  Sleeper& operator=(Sleeper&&) = delete;
  ~Sleeper();
  pid_t pid() const { return pid_; }
  bool alive() const;
  // The signal that ended it; 0: it exited. -1: it lives at the deadline.
  int wait(std::chrono::seconds deadline = 20s);

 private:
  pid_t pid_;
};

}  // namespace procguard::test
