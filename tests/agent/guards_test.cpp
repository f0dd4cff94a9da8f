// SPDX-License-Identifier: Apache-2.0
// Guards of an agent on real processes.
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "tests/agent/agent_under_test.h"
#include "tests/support/peer.h"

namespace procguard::test {
namespace {

class AgentGuards : public AgentTest {};

TEST_F(AgentGuards, ATimeoutEndsItsProcess) {
  Sleeper target;
  const std::uint64_t id = attach(process_guard().timeout(200ms).name("nap"), target.pid());
  ASSERT_NE(id, 0U);
  EXPECT_EQ(target.wait(), SIGKILL);
  const auto step = event(id, PG_EVENT_STEP);
  ASSERT_TRUE(step);
  EXPECT_GE(step->event.at_ns, step->event.due_ns) << "never early";
  EXPECT_EQ(step->event.result, static_cast<unsigned>(PG_RESULT_SENT));
  ASSERT_EQ(step->reached, 1U);
  EXPECT_TRUE(event(id, PG_EVENT_TARGET_EXITED));
  EXPECT_TRUE(list().empty());
  const auto shown = show(id);
  ASSERT_TRUE(shown) << "ended guards stay visible";
  EXPECT_EQ(shown->row.guard.phase, static_cast<unsigned>(PG_GUARD_ENDED));
}

TEST_F(AgentGuards, SetPauseResumeReleaseProgress) {
  Sleeper target;
  const std::uint64_t id = attach(process_guard().timeout(3600s), target.pid());
  ASSERT_EQ(list().size(), 1U);
  EXPECT_EQ(act(proto::Op::kPause, id).status, proto::Status::kOk);
  EXPECT_EQ(set(id, PG_TIMEOUT, 1).status, proto::Status::kOk);
  EXPECT_EQ(set(id, PG_TIMEOUT, std::chrono::nanoseconds(3600s).count()).status,
            proto::Status::kOk);
  EXPECT_EQ(act(proto::Op::kProgress, id).status, proto::Status::kOk);
  EXPECT_EQ(act(proto::Op::kResume, id).status, proto::Status::kOk);
  EXPECT_TRUE(target.alive());
  EXPECT_EQ(act(proto::Op::kRelease, id).status, proto::Status::kOk);
  EXPECT_TRUE(list().empty());
  EXPECT_EQ(act(proto::Op::kRelease, id).status, proto::Status::kNotFound);
  EXPECT_TRUE(target.alive());
}

// `run` is killed right after its command's exec, before it could say so.
TEST_F(AgentGuards, AHeldOneStartsWhenItsClientGoes) {
  Sleeper target;
  const std::uint64_t id = attach(process_guard().timeout(200ms).flags(proto::kHeld), target.pid());
  EXPECT_EQ(show(id)->row.guard.armed_ns, 0U) << "it waits";
  client_.reset();
  EXPECT_EQ(target.wait(), SIGKILL);
}

// The agent dies, and the client with it: the next agent waits for it in vain.
TEST_F(AgentGuards, AHeldOneStartsWhenItsClientDoesNotComeBack) {
  Sleeper target;
  const std::uint64_t id = attach(process_guard().timeout(200ms).flags(proto::kHeld), target.pid());
  kill_agent();
  start_agent();
  EXPECT_EQ(show(id)->row.guard.armed_ns, 0U) << "it waits";
  EXPECT_EQ(target.wait(60s), SIGKILL) << "ten seconds later";
}

// The moment has come to take the programs off, and a guard is made in the same moment.
TEST_F(AgentGuards, OneThatIsMadeWhenTheAgentIsIdleForLongIsGuarded) {
  Peer target([](Script& line) {
    line.hear();
    touch(map_pages(96 * kMiB), 96 * kMiB);
    sleep_on();
  });
  const auto wanted = process_guard().memory(rss(target.pid()) + 48 * kMiB);
  const std::uint64_t before = attach(process_guard().timeout(1h), target.pid());
  EXPECT_EQ(act(proto::Op::kRelease, before).status, proto::Status::kOk);
  EXPECT_TRUE(list().empty());
  ASSERT_EQ(::kill(agent_->pid(), SIGSTOP), 0);
  std::thread asks([&] { EXPECT_NE(attach(wanted, target.pid()), 0U); });
  std::this_thread::sleep_for(11s);  // longer than it keeps them attached for nobody
  ASSERT_EQ(::kill(agent_->pid(), SIGCONT), 0);
  asks.join();
  target.tell();
  EXPECT_EQ(WTERMSIG(target.wait()), SIGKILL);
}

TEST_F(AgentGuards, SurviveTheAgentsDeath) {
  Sleeper target;
  const std::uint64_t id = attach(process_guard().timeout(1500ms).name("job"), target.pid());
  kill_agent();
  start_agent();
  const auto shown = show(id);
  ASSERT_TRUE(shown);
  EXPECT_EQ(shown->row.guard.phase, static_cast<unsigned>(PG_GUARD_ARMED));
  EXPECT_EQ(target.wait(), SIGKILL);
  const auto step = event(id, PG_EVENT_STEP);
  ASSERT_TRUE(step);
  EXPECT_GE(step->event.at_ns, step->event.due_ns);
  EXPECT_TRUE(event(0, PG_EVENT_AGENT_GAP));
}

TEST_F(AgentGuards, TheYoungestLiveOneOfANameIsFound) {
  Sleeper target;
  const auto wanted = process_guard().timeout(1h).name("job");
  const std::uint64_t older = attach(wanted, target.pid());
  const std::uint64_t younger = attach(wanted, target.pid());
  const auto named = [&] {
    proto::Writer request(proto::Op::kProgress, client().request());
    proto::RefBody which;
    proto::put_text(which.name, std::string("job"));
    request.add(which);
    const auto reply = client().call(request);
    const auto body = reply ? reply->one<proto::GuardBody>() : std::nullopt;
    return body ? body->guard.id : 0;
  };
  EXPECT_EQ(named(), younger);
  EXPECT_EQ(act(proto::Op::kRelease, younger).status, proto::Status::kOk);
  EXPECT_EQ(named(), older);
  EXPECT_EQ(act(proto::Op::kRelease, older).status, proto::Status::kOk);
  EXPECT_EQ(named(), 0U);
}

TEST_F(AgentGuards, ManyGuardsShareAWatch) {
  Sleeper target;
  std::vector<std::uint64_t> ids;
  for (int i = 0; i < 40; ++i) {
    const std::uint64_t limit = rss(target.pid()) + ((64 + i) << 20);
    ids.push_back(attach(process_guard().timeout(3600s).memory(limit), target.pid()));
  }
  EXPECT_EQ(list().size(), 40U);
  const std::uint64_t first =
      attach(process_guard().timeout(300ms).ladder("CONT,KILL"), target.pid());
  EXPECT_TRUE(event(first, PG_EVENT_STEP));
  EXPECT_TRUE(target.alive());
}

}  // namespace
}  // namespace procguard::test
