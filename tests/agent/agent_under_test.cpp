// SPDX-License-Identifier: Apache-2.0
#include "tests/agent/agent_under_test.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>

#include "kernel/objects.h"
#include "sys/caps.h"
#include "sys/namespaces.h"
#include "sys/pidfd.h"
#include "sys/procfs.h"

namespace procguard::test {
namespace {

Wanted guard_of(pg_scope scope) {
  Wanted wanted;
  wanted.body.scope = scope;
  wanted.ladder("KILL");
  return wanted;
}

}  // namespace

Wanted& Wanted::ladder(const char* text) {
  const auto steps = core::parse_ladder(text).value();
  body.steps = static_cast<std::uint32_t>(steps.size());
  std::copy(steps.begin(), steps.end(), body.ladder);
  return *this;
}

Wanted& Wanted::name(const std::string& text) {
  proto::put_text(body.name, text);
  return *this;
}

Wanted process_guard() {
  return guard_of(PG_SCOPE_PROCESS);
}
Wanted tree_guard() {
  return guard_of(PG_SCOPE_TREE);
}
Wanted cgroup_guard() {
  return guard_of(PG_SCOPE_CGROUP);
}
Wanted thread_guard(pid_t tid) {
  Wanted wanted = guard_of(PG_SCOPE_THREAD);
  wanted.body.tid = static_cast<std::uint32_t>(tid);
  return wanted;
}

void AgentTest::SetUp() {
  const auto capabilities = sys::read_capabilities();
  if (!capabilities || !sys::missing_for_bpf(capabilities.value()).empty() ||
      !sys::in_host_pid_namespace()) {
    GTEST_SKIP() << "an agent needs BPF, as root in the host's pid namespace";
  }
  start_agent();
}

void AgentTest::TearDown() {
  client_.reset();
  if (agent_) {
    agent_->stop();
    agent_.reset();
  }
  const Outcome torn =
      run({.argv = {procguard_binary(), "agent", "--teardown", "--pin-dir", place_.pins}});
  EXPECT_EQ(torn.status(), 0) << torn.describe();
  EXPECT_FALSE(std::filesystem::exists(place_.pins));
  std::filesystem::remove_all(place_.directory);
}

void AgentTest::start_agent(std::vector<std::string> more) {
  agent_ = std::make_unique<AgentProcess>(place_, std::move(more));
  ASSERT_TRUE(agent_->ready()) << agent_->process().wait().describe();
}

proto::Client AgentTest::connect() {
  auto client = proto::Client::connect(place_.socket);
  EXPECT_TRUE(client.ok());
  return std::move(client).value();
}

proto::Client& AgentTest::client() {
  if (!client_) {
    client_.emplace(connect());
  }
  return *client_;
}

proto::Refusal AgentTest::refused_fd(proto::Client& client, const Wanted& wanted, int fd) {
  proto::AttachBody body = wanted.body;
  body.flags |= proto::kHasFd;
  proto::Writer request(proto::Op::kAttach, client.request());
  request.add(body);
  const auto reply = client.call(request, std::span(&fd, 1));
  EXPECT_TRUE(reply.ok()) << (reply.ok() ? "" : reply.error().message());
  return reply ? proto::refusal(reply.value()) : proto::Refusal{};
}

proto::Refusal AgentTest::refused(const Wanted& wanted, pid_t pid) {
  const auto pidfd = sys::open_pidfd(pid);
  EXPECT_TRUE(pidfd.ok());
  return refused_fd(client(), wanted, pidfd ? pidfd->get() : -1);
}

namespace {

std::uint64_t armed(proto::Client& client, const Wanted& wanted, int fd) {
  proto::AttachBody body = wanted.body;
  body.flags |= proto::kHasFd;
  proto::Writer request(proto::Op::kAttach, client.request());
  request.add(body);
  const auto reply = client.call(request, std::span(&fd, 1));
  if (!reply) {
    ADD_FAILURE() << reply.error().message();
    return 0;
  }
  const auto body_of_reply = reply->one<proto::ArmedBody>();
  if (reply->op() != proto::Op::kAttach || !body_of_reply) {
    ADD_FAILURE() << "refused: " << proto::refusal(reply.value()).text;
    return 0;
  }
  return body_of_reply->id;
}

}  // namespace

std::uint64_t AgentTest::attach(const Wanted& wanted, pid_t pid) {
  const auto pidfd = sys::open_pidfd(pid);
  EXPECT_TRUE(pidfd.ok());
  return pidfd ? armed(client(), wanted, pidfd->get()) : 0;
}

std::uint64_t AgentTest::attach_cgroup(const Wanted& wanted, const std::string& path) {
  const sys::Fd directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return armed(client(), wanted, directory.get());
}

std::optional<proto::ShowBody> AgentTest::show(std::uint64_t id) {
  proto::Writer request(proto::Op::kShow, client().request());
  request.add(proto::RefBody{.id = id, .name = {}});
  const auto reply = client().call(request);
  const auto body = reply ? reply->one<proto::ShowBody>() : std::nullopt;
  if (body) {
    EXPECT_TRUE(client().next().ok());  // its threads
  }
  return body;
}

std::vector<proto::RowBody> AgentTest::list(bool ended) {
  std::vector<proto::RowBody> rows;
  for (;;) {
    proto::Writer request(proto::Op::kList, client().request());
    request.add(proto::ListBody{
        .after = rows.empty() ? 0 : rows.back().guard.id, .ended = ended ? 1U : 0U, .padding = 0});
    const auto reply = client().call(request);
    const auto more = reply ? reply->as<proto::RowBody>() : std::nullopt;
    if (!more) {
      ADD_FAILURE() << "no list";
      return rows;
    }
    rows.insert(rows.end(), more->begin(), more->end());
    if (reply->has(proto::kEnd)) {
      return rows;
    }
  }
}

std::vector<proto::EventBody> AgentTest::events(std::uint64_t guard) {
  std::vector<proto::EventBody> all;
  proto::Writer request(proto::Op::kEvents, client().request());
  request.add(proto::EventsBody{.since_seq = 0, .since_real_ns = 0, .guard = guard});
  for (auto reply = client().call(request);; reply = client().next()) {
    const auto some = reply ? reply->as<proto::EventBody>() : std::nullopt;
    if (!some) {
      ADD_FAILURE() << "no events";
      return all;
    }
    all.insert(all.end(), some->begin(), some->end());
    if (reply->has(proto::kEnd)) {
      return all;
    }
  }
}

std::optional<proto::EventBody> AgentTest::event(std::uint64_t guard, std::uint32_t kind,
                                                 std::chrono::seconds deadline) {
  std::optional<proto::EventBody> found;
  wait_until(
      [&] {
        for (const proto::EventBody& each : events(guard)) {
          if (each.event.kind == kind && !found) {
            found = each;
          }
        }
        return found.has_value();
      },
      deadline);
  return found;
}

std::uint64_t AgentTest::rss(pid_t pid) {
  return sys::ProcRoot().rss_bytes(pid).value();
}

proto::Refusal AgentTest::act(proto::Op op, std::uint64_t id) {
  proto::Writer request(op, client().request());
  request.add(proto::RefBody{.id = id, .name = {}});
  const auto reply = client().call(request);
  EXPECT_TRUE(reply.ok());
  return reply ? proto::refusal(reply.value()) : proto::Refusal{};
}

proto::Refusal AgentTest::set(std::uint64_t id, pg_resource resource, std::uint64_t limit) {
  proto::SetBody body;
  body.guard.id = id;
  body.limit[resource] = limit;
  proto::Writer request(proto::Op::kSet, client().request());
  request.add(body);
  const auto reply = client().call(request);
  EXPECT_TRUE(reply.ok());
  return reply ? proto::refusal(reply.value()) : proto::Refusal{};
}

Sleeper::Sleeper() : Sleeper([] { ::pause(); }) {}

Sleeper::Sleeper(const std::function<void()>& body) : pid_(::fork()) {
  if (pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // a test that dies leaves nobody
    body();
    ::_exit(0);
  }
}

Sleeper::~Sleeper() {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
}

bool Sleeper::alive() const {
  const char state = process_state(pid_);
  return state != 0 && state != 'Z' && state != 'X';
}

int Sleeper::wait(std::chrono::seconds deadline) {
  int status = 0;
  const bool over = wait_until([&] { return ::waitpid(pid_, &status, WNOHANG) == pid_; }, deadline);
  if (!over) {
    return -1;
  }
  pid_ = -1;
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

}  // namespace procguard::test
