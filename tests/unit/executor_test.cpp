// SPDX-License-Identifier: Apache-2.0
#include "engine/executor.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <csignal>
#include <functional>
#include <map>

#include "tests/support/fake_clock.h"
#include "tests/support/fake_signaler.h"
#include "tests/support/fake_source.h"

namespace procguard::engine {
namespace {

using test::FakeClock;
using test::FakeSignaler;
using test::FakeSource;
using test::Journal;

constexpr pid_t kSelf = 900;

class ExecutorTest : public ::testing::Test {
 protected:
  // Watches a target with these members; the journal begins empty.
  void watch(pg_scope scope, const std::vector<pid_t>& pids) {
    target_ = {.scope = scope,
               .pid = scope == PG_SCOPE_CGROUP || pids.empty() ? 0 : pids[0],
               .tid = scope == PG_SCOPE_THREAD ? pids[0] + 1 : 0,
               .cgroup_path = scope == PG_SCOPE_CGROUP ? "/cg" : "",
               .cgroup_id = 0,
               .owner_uid = 0,
               .any_uid = true};
    watch_ = source_.watch(target_).value();
    source_.at(watch_).members.clear();
    for (pid_t pid : pids) {
      source_.add_member(watch_, pid);
    }
    journal_.clear();
  }
  Outcome take(int signal, pg_resource resource = PG_TIMEOUT, std::uint32_t index = 0,
               std::uint32_t kernel_pid = 0) {
    const core::TakeStep step{.resource = resource,
                              .index = index,
                              .step = {.action = PG_ACTION_SIGNAL,
                                       .signal = static_cast<std::uint32_t>(signal),
                                       .wait_ns = 0},
                              .due_ns = 0,
                              .last = false,
                              .kernel_pid = kernel_pid};
    return executor_.take(target_, watch_, step, step.resource == PG_MEMORY_GROWTH ? 1 : 0);
  }

  FakeClock clock_;
  Journal journal_;
  FakeSource source_{clock_, journal_};
  FakeSignaler signaler_{source_, journal_};
  std::map<pid_t, ProcessFacts> facts_;
  std::function<void(pid_t)> on_facts_ = [](pid_t) {};
  Executor executor_{source_, signaler_,
                     [this](pid_t pid, int) {
                       on_facts_(pid);
                       return facts_[pid];
                     },
                     kSelf};
  Target target_;
  WatchId watch_ = 0;
};

TEST_F(ExecutorTest, AProcessGetsTheSignalThenCont) {
  watch(PG_SCOPE_PROCESS, {42});
  const Outcome outcome = take(SIGINT);
  EXPECT_EQ(outcome.result, PG_RESULT_SENT);
  EXPECT_EQ(outcome.reached, std::vector<pid_t>{42});
  EXPECT_EQ(journal_, (Journal{"members", "42 INT", "42 CONT"}));
}

TEST_F(ExecutorTest, NoContAfterKillStopCont) {
  for (int signal : {SIGKILL, SIGSTOP, SIGCONT}) {
    watch(PG_SCOPE_PROCESS, {42});
    EXPECT_EQ(take(signal).result, PG_RESULT_SENT);
    EXPECT_EQ(journal_, (Journal{"members", "42 " + core::signal_name(signal)}));
  }
}

TEST_F(ExecutorTest, AThreadGetsThreadDirectedSignals) {
  watch(PG_SCOPE_THREAD, {42});
  EXPECT_EQ(take(SIGTERM).result, PG_RESULT_SENT);
  EXPECT_EQ(journal_, (Journal{"members", "42/43 TERM", "42/43 CONT"}));
  source_.ended = {42};
  EXPECT_EQ(take(SIGTERM).result, PG_RESULT_GONE) << "verified before each signal";
}

TEST_F(ExecutorTest, ATreeAndACgroupGetItInEveryMember) {
  for (pg_scope scope : {PG_SCOPE_TREE, PG_SCOPE_CGROUP}) {
    watch(scope, {42, 43, 44});
    const Outcome outcome = take(SIGTERM);
    EXPECT_EQ(outcome.result, PG_RESULT_SENT);
    EXPECT_EQ(outcome.reached, (std::vector<pid_t>{42, 43, 44}));
    EXPECT_EQ(journal_, (Journal{"members", "42 TERM", "42 CONT", "43 TERM", "43 CONT", "44 TERM",
                                 "44 CONT"}));
    EXPECT_FALSE(source_.at(watch_).doomed);
  }
}

TEST_F(ExecutorTest, KillDoomsATreeBeforeTheFirstSignal) {
  watch(PG_SCOPE_TREE, {42, 43});
  EXPECT_EQ(take(SIGKILL).result, PG_RESULT_SENT);
  EXPECT_EQ(journal_, (Journal{"members", "doom", "42 KILL", "43 KILL"}));
}

TEST_F(ExecutorTest, KillOfAProcessDoomsNobody) {
  watch(PG_SCOPE_PROCESS, {42});
  take(SIGKILL);
  EXPECT_FALSE(source_.at(watch_).doomed);
}

TEST_F(ExecutorTest, KillEndsACgroupAtOneBlow) {
  watch(PG_SCOPE_CGROUP, {42, 43});
  const Outcome outcome = take(SIGKILL);
  EXPECT_EQ(outcome.result, PG_RESULT_SENT);
  EXPECT_EQ(outcome.reached, (std::vector<pid_t>{42, 43}));
  EXPECT_EQ(journal_, (Journal{"members", "doom", "cgroup.kill /cg"}));
}

TEST_F(ExecutorTest, KillFallsBackToTheMembersOfACgroup) {
  watch(PG_SCOPE_CGROUP, {42, 43});
  signaler_.cgroup_error = ENOENT;
  EXPECT_EQ(take(SIGKILL).result, PG_RESULT_SENT);
  EXPECT_EQ(journal_, (Journal{"members", "doom", "42 KILL", "43 KILL"}));
}

TEST_F(ExecutorTest, AnEmptyCgroupIsNotKilledByItsPath) {
  watch(PG_SCOPE_CGROUP, {});
  EXPECT_EQ(take(SIGKILL).result, PG_RESULT_GONE);
  EXPECT_EQ(journal_, (Journal{"members", "doom"}));
}

TEST_F(ExecutorTest, SomeAreNeverATarget) {
  for (int signal : {SIGTERM, SIGKILL}) {
    for (pg_scope scope : {PG_SCOPE_TREE, PG_SCOPE_CGROUP}) {
      watch(scope, {42, 1, kSelf, 2});
      facts_[2].kernel_thread = true;
      const Outcome outcome = take(signal);
      EXPECT_EQ(outcome.result, PG_RESULT_SENT);
      EXPECT_EQ(outcome.reached, std::vector<pid_t>{42});
      EXPECT_EQ(outcome.refused, (std::vector<pid_t>{1, kSelf, 2}));
      EXPECT_FALSE(source_.at(watch_).doomed) << "it would end the protected ones too";
      for (const std::string& line : journal_) {
        EXPECT_TRUE(line == "members" || line.starts_with("42 ")) << line;
      }
    }
  }
  for (pid_t pid : {1, kSelf, 2}) {
    watch(PG_SCOPE_PROCESS, {pid});
    EXPECT_EQ(take(SIGKILL).result, PG_RESULT_REFUSED);
    EXPECT_EQ(journal_, Journal{"members"});
  }
}

TEST_F(ExecutorTest, ResultsByWhoGotIt) {
  struct {
    const char* name;
    std::map<pid_t, int> errors;  // of send, by process
    pg_result result;
    int error;
    std::vector<pid_t> reached;
    std::vector<pid_t> refused;
  } rows[] = {
      {"all", {}, PG_RESULT_SENT, 0, {42, 43}, {}},
      {"one refuses", {{43, EPERM}}, PG_RESULT_SENT, EPERM, {42}, {43}},
      {"all refuse", {{42, EPERM}, {43, EPERM}}, PG_RESULT_REFUSED, EPERM, {}, {42, 43}},
      {"all gone", {{42, ESRCH}, {43, ESRCH}}, PG_RESULT_GONE, 0, {}, {}},
      {"one gone, one refuses", {{42, ESRCH}, {43, EPERM}}, PG_RESULT_REFUSED, EPERM, {}, {43}},
      {"one gone, one got it", {{42, ESRCH}}, PG_RESULT_SENT, 0, {43}, {}},
      {"broken", {{42, EINVAL}, {43, EINVAL}}, PG_RESULT_FAILED, EINVAL, {}, {}},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.name);
    watch(PG_SCOPE_TREE, {42, 43});
    signaler_.errors = row.errors;
    const Outcome outcome = take(SIGTERM);
    EXPECT_EQ(outcome.result, row.result);
    EXPECT_EQ(outcome.error, row.error);
    EXPECT_EQ(outcome.reached, row.reached);
    EXPECT_EQ(outcome.refused, row.refused);
  }
}

TEST_F(ExecutorTest, MembersThatCannotBeOpened) {
  watch(PG_SCOPE_PROCESS, {42});
  source_.ended = {42};
  EXPECT_EQ(take(SIGTERM).result, PG_RESULT_GONE);
  source_.ended.clear();
  source_.unopenable = {{42, EMFILE}};
  const Outcome outcome = take(SIGTERM);
  EXPECT_EQ(outcome.result, PG_RESULT_FAILED);
  EXPECT_EQ(outcome.error, EMFILE);
  source_.members_error = ENOMEM;
  EXPECT_EQ(take(SIGTERM).result, PG_RESULT_FAILED);
}

TEST_F(ExecutorTest, AnInitWithoutAHandlerIgnores) {
  watch(PG_SCOPE_CGROUP, {42});
  facts_[42].namespace_init = true;
  EXPECT_EQ(take(SIGTERM).result, PG_RESULT_IGNORED);
  EXPECT_EQ(journal_, (Journal{"members", "42 TERM", "42 CONT"})) << "the kernel drops it";
  facts_[42].handles_signal = true;
  EXPECT_EQ(take(SIGTERM).result, PG_RESULT_SENT);
  facts_[42].handles_signal = false;
  signaler_.cgroup_error = ENOENT;
  EXPECT_EQ(take(SIGKILL).result, PG_RESULT_SENT) << "KILL is never ignored";
  EXPECT_EQ(take(SIGSTOP).result, PG_RESULT_SENT) << "nor is STOP";
  source_.add_member(watch_, 43);
  EXPECT_EQ(take(SIGTERM).result, PG_RESULT_SENT) << "somebody got it";
  signaler_.errors = {{43, EPERM}};
  EXPECT_EQ(take(SIGTERM).result, PG_RESULT_IGNORED) << "nobody got it";
}

TEST_F(ExecutorTest, FrozenOrTracedIsPendingButSent) {
  watch(PG_SCOPE_TREE, {42, 43});
  facts_[42].frozen_or_traced = true;
  facts_[43].frozen_or_traced = true;
  EXPECT_EQ(take(SIGTERM).result, PG_RESULT_PENDING);
  EXPECT_EQ(journal_, (Journal{"members", "42 TERM", "42 CONT", "43 TERM", "43 CONT"}));
  EXPECT_EQ(take(SIGKILL).result, PG_RESULT_SENT) << "KILL goes through";
  facts_[43].frozen_or_traced = false;
  EXPECT_EQ(take(SIGTERM).result, PG_RESULT_SENT) << "somebody has it now";
  std::swap(facts_[42], facts_[43]);
  EXPECT_EQ(take(SIGTERM).result, PG_RESULT_SENT) << "whoever it is";
}

TEST_F(ExecutorTest, WhoHasTheFirstStepFromTheKernelIsSpared) {
  struct {
    pg_resource resource;
    int slot;
  } rows[] = {{PG_MEMORY, 0}, {PG_MEMORY_GROWTH, 1}};
  for (const auto& row : rows) {
    watch(PG_SCOPE_TREE, {42, 43, 44});
    source_.member(watch_, 43).kernel_signalled[row.slot] = true;
    source_.member(watch_, 44).kernel_signalled[1 - row.slot] = true;
    const Outcome outcome = take(SIGINT, row.resource, 0, 42);
    EXPECT_EQ(outcome.result, PG_RESULT_SENT);
    EXPECT_EQ(outcome.reached, (std::vector<pid_t>{42, 43, 44}));
    EXPECT_EQ(journal_, (Journal{"take_over", "members", "44 INT", "44 CONT"}))
        << "taken over before the list is made";
    journal_.clear();
    take(SIGTERM, row.resource, 1);
    EXPECT_EQ(journal_, (Journal{"members", "42 TERM", "42 CONT", "43 TERM", "43 CONT", "44 TERM",
                                 "44 CONT"}))
        << "the second step is for all";
  }
}

TEST_F(ExecutorTest, TheKernelsStepIsSentEvenIfItsTargetIsGone) {
  watch(PG_SCOPE_PROCESS, {});
  const Outcome outcome = take(SIGINT, PG_MEMORY, 0, 42);
  EXPECT_EQ(outcome.result, PG_RESULT_SENT);
  EXPECT_EQ(outcome.reached, std::vector<pid_t>{42});
}

TEST_F(ExecutorTest, KillAsTheFirstStepSparesNobody) {
  watch(PG_SCOPE_TREE, {42, 43});
  source_.member(watch_, 42).kernel_signalled[0] = true;
  take(SIGKILL, PG_MEMORY, 0, 42);
  EXPECT_EQ(journal_, (Journal{"take_over", "members", "doom", "42 KILL", "43 KILL"}));
}

TEST_F(ExecutorTest, OtherLimitsTakeNothingOver) {
  watch(PG_SCOPE_TREE, {42});
  source_.member(watch_, 42).kernel_signalled[0] = true;
  take(SIGINT, PG_TIMEOUT);
  EXPECT_EQ(journal_, (Journal{"members", "42 INT", "42 CONT"}));
}

TEST_F(ExecutorTest, ExceptionsAreNotForOtherPrograms) {
  watch(PG_SCOPE_PROCESS, {42});
  const core::TakeStep step{.resource = PG_TIMEOUT,
                            .index = 0,
                            .step = {.action = PG_ACTION_EXCEPTION, .signal = 0, .wait_ns = 0},
                            .due_ns = 0,
                            .last = false,
                            .kernel_pid = 0};
  EXPECT_EQ(executor_.take(target_, watch_, step, 0).result, PG_RESULT_FAILED);
  EXPECT_TRUE(journal_.empty());
}

TEST_F(ExecutorTest, OfWhomTheSourceKnowsNothingIsReadBeforeTheSignal) {
  for (int signal : {SIGTERM, SIGKILL}) {
    watch(PG_SCOPE_PROCESS, {42});
    source_.member(watch_, 42).is_user_process = true;
    on_facts_ = [this](pid_t) { journal_.emplace_back("facts"); };
    EXPECT_EQ(take(signal).result, PG_RESULT_SENT);
    EXPECT_EQ(journal_, signal == SIGTERM ? (Journal{"members", "42 TERM", "42 CONT", "facts"})
                                          : (Journal{"members", "42 KILL"}));
  }
}

TEST_F(ExecutorTest, SweepKillsWhatIsLeft) {
  watch(PG_SCOPE_TREE, {42, 43, 44});
  source_.ended = {43};
  signaler_.errors = {{44, ESRCH}};
  EXPECT_EQ(executor_.sweep(target_, watch_).value(), 1u);
  EXPECT_EQ(journal_, (Journal{"members", "doom", "42 KILL"}));
}

TEST_F(ExecutorTest, SweepUsesTheCgroupAgain) {
  watch(PG_SCOPE_CGROUP, {42, 43});
  EXPECT_EQ(executor_.sweep(target_, watch_).value(), 2u);
  EXPECT_EQ(journal_, (Journal{"members", "doom", "cgroup.kill /cg"}));
}

TEST_F(ExecutorTest, SweepEndsThoughSomeMayNotBeKilled) {
  watch(PG_SCOPE_TREE, {1, kSelf, 2, 42, 43});
  facts_[2].kernel_thread = true;
  signaler_.errors = {{42, EPERM}};
  source_.unopenable = {{43, EMFILE}};
  EXPECT_EQ(executor_.sweep(target_, watch_).value(), 1u) << "43 is worth another look";
  source_.unopenable = {{43, ESRCH}};
  EXPECT_EQ(executor_.sweep(target_, watch_).value(), 0u);
  EXPECT_FALSE(source_.at(watch_).doomed);
  source_.members_error = EIO;
  EXPECT_EQ(executor_.sweep(target_, watch_).error().code(), EIO);
}

}  // namespace
}  // namespace procguard::engine
