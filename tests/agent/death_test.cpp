// SPDX-License-Identifier: Apache-2.0
// An agent that is killed by -9 at any moment loses no guard: rounds of guards with random
// deadlines and growing targets, beside load, while agents die and are started again. A target that
// should have been ended was, not early, and late by no more than the time without an agent and a
// moment; everybody else lives. PROCGUARD_TEST_ROUNDS: how many rounds.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>

#include "sys/procfs.h"
#include "tests/agent/agent_under_test.h"
#include "tests/agent/ends.h"
#include "tests/agent/victims.h"

namespace procguard::test {
namespace {

constexpr core::Ns kMs = core::kMillisecond;
constexpr core::Ns kStepGrace = 100 * kMs;
constexpr core::Ns kMoment = 50 * kMs;  // what a step may be late by with an agent there

enum class Kind { kProcess, kStubborn, kTree, kThread, kMemory, kMemoryGrace, kMemoryTree };
constexpr Kind kKinds[] = {Kind::kProcess, Kind::kProcess, Kind::kStubborn,    Kind::kTree,
                           Kind::kThread,  Kind::kMemory,  Kind::kMemoryGrace, Kind::kMemoryTree};

const char* name_of(Kind kind) {
  constexpr const char* kNames[] = {"process, timeout", "process, ignores INT", "tree, timeout",
                                    "thread, timeout",  "process, memory",      "process, grace",
                                    "tree, memory"};
  return kNames[static_cast<int>(kind)];
}

bool grows(Kind kind) {
  return kind == Kind::kMemory || kind == Kind::kMemoryGrace || kind == Kind::kMemoryTree;
}

struct Guarded {
  Guarded(Kind what, core::Ns when) : kind(what), after(when) {}
  Kind kind;
  core::Ns after;  // of a grower: when it begins to
  Victim victim;
  std::vector<std::size_t> ends;  // places in Ends: one a member
  core::Ns armed_before = 0;
  core::Ns armed_after = 0;

  core::Ns not_before() const {
    const core::Ns wait = kind == Kind::kStubborn || kind == Kind::kMemoryGrace ? kStepGrace : 0;
    return grows(kind) ? victim.board().near_ns + wait : armed_before + after + wait;
  }
  // When its first step was due at the latest; 0: it was ended before anybody could say.
  core::Ns due() const {
    return grows(kind) ? victim.board().beyond_ns.load() : armed_after + after;
  }
  core::Ns waits() const {
    return kind == Kind::kStubborn || kind == Kind::kMemoryGrace ? kStepGrace : 0;
  }
};

struct Gap {
  core::Ns from;
  core::Ns to;
};

class AgentDeath : public AgentTest {
 protected:
  core::Ns random(core::Ns from, core::Ns to) {
    return std::uniform_int_distribution<core::Ns>(from, to)(dice_);
  }
  void make(Guarded& guarded);
  void arm(Guarded& guarded);
  void round();
  void kill_and_restart();
  void check(const Guarded& guarded);
  void print() const;
  core::Ns without_agent(core::Ns from, core::Ns to) const;

  std::mt19937_64 dice_{std::random_device{}()};
  std::vector<Gap> gaps_;
  std::unique_ptr<Ends> ends_;
  std::map<std::string, std::vector<core::Ns>> late_;  // beyond the time without an agent
  core::Ns longest_stall_ = 0;
  int deaths_ = 0;
};

void AgentDeath::make(Guarded& guarded) {
  switch (guarded.kind) {
    case Kind::kProcess:
      return guarded.victim.start(&Victim::sleep);
    case Kind::kStubborn:
      return guarded.victim.start(&Victim::ignore_int);
    case Kind::kTree:
      return guarded.victim.start(&Victim::have_a_grandchild);
    case Kind::kThread:
      return guarded.victim.start(&Victim::have_a_thread);
    case Kind::kMemory:
    case Kind::kMemoryGrace:
      return guarded.victim.start(&Victim::grow);
    case Kind::kMemoryTree:
      return guarded.victim.start(&Victim::grow_by_a_child);
  }
}

void AgentDeath::arm(Guarded& guarded) {
  const auto deadline = std::chrono::nanoseconds(guarded.after);
  const pid_t pid = guarded.victim.pid();
  const auto rss = sys::ProcRoot().rss_bytes(pid).value();
  guarded.armed_before = now_ns();
  std::uint64_t id = 0;
  switch (guarded.kind) {
    case Kind::kProcess:
      id = attach(process_guard().timeout(deadline), pid);
      break;
    case Kind::kStubborn:
      id = attach(process_guard().timeout(deadline).ladder("INT:100ms,KILL"), pid);
      break;
    case Kind::kTree:
      id = attach(tree_guard().timeout(deadline), pid);
      break;
    case Kind::kThread:
      id = attach(thread_guard(guarded.victim.board().tid).timeout(deadline), pid);
      break;
    case Kind::kMemory:
      id = attach(process_guard().memory(rss + kGrowsOver), pid);
      break;
    case Kind::kMemoryGrace:
      id = attach(process_guard().memory(rss + kGrowsOver).grace(kStepGrace), pid);
      break;
    case Kind::kMemoryTree: {
      const auto second = sys::ProcRoot().rss_bytes(guarded.victim.board().child).value();
      id = attach(tree_guard().memory(rss + second + kGrowsOver), pid);
      break;
    }
  }
  guarded.armed_after = now_ns();
  EXPECT_NE(id, 0U);
  guarded.victim.board().grow_at_ns = guarded.armed_after + guarded.after;
}

// Also agents that die while they take over.
void AgentDeath::kill_and_restart() {
  const core::Ns from = now_ns();
  kill_agent();
  ++deaths_;
  if (random(0, 3) == 0) {
    AgentProcess next(place_);
    sleep_ns(random(0, 40 * kMs));
    next.kill();
    ++deaths_;
  }
  sleep_ns(random(0, 60 * kMs));
  start_agent();
  gaps_.push_back({from, now_ns()});
}

core::Ns AgentDeath::without_agent(core::Ns from, core::Ns to) const {
  core::Ns sum = 0;
  for (const Gap& gap : gaps_) {
    sum += core::saturating_sub(std::min(gap.to, to), std::max(gap.from, from));
  }
  return sum;
}

void AgentDeath::check(const Guarded& guarded) {
  for (const std::size_t place : guarded.ends) {
    const core::Ns ended = ends_->at(place);
    if (ended == 0) {
      ADD_FAILURE() << "lost: " << name_of(guarded.kind) << ", pid " << guarded.victim.pid();
      continue;
    }
    EXPECT_GE(ended, guarded.not_before()) << "early: " << name_of(guarded.kind);
    EXPECT_TRUE(!grows(guarded.kind) || guarded.victim.board().near_ns != 0)
        << "early: " << name_of(guarded.kind);
    const core::Ns due = guarded.due();
    if (due == 0) {
      late_[name_of(guarded.kind)].push_back(0);
      continue;
    }
    const core::Ns excused = guarded.waits() + without_agent(due, ended);
    const core::Ns late = core::saturating_sub(ended, due + excused);
    late_[name_of(guarded.kind)].push_back(late);
    EXPECT_LE(late, kMoment + ends_->longest_stall())
        << name_of(guarded.kind) << " was late beyond the " << without_agent(due, ended) / kMs
        << " ms without an agent";
  }
}

void AgentDeath::round() {
  std::vector<std::unique_ptr<Guarded>> all;
  for (const Kind kind : kKinds) {
    all.push_back(std::make_unique<Guarded>(kind, random(50 * kMs, 500 * kMs)));
    make(*all.back());
  }
  Sleeper unguarded;
  Sleeper patient;
  Sleeper small;
  Sleeper released;
  ends_ = std::make_unique<Ends>();
  for (const auto& each : all) {
    for (const pid_t pid : each->victim.members()) {
      each->ends.push_back(ends_->add(pid));
    }
  }
  ends_->watch();
  const std::uint64_t long_one = attach(process_guard().timeout(3600s), patient.pid());
  const std::uint64_t large_one = attach(tree_guard().memory(4ULL << 30), small.pid());
  const std::uint64_t off = attach(process_guard().timeout(500ms), released.pid());
  EXPECT_EQ(act(proto::Op::kRelease, off).status, proto::Status::kOk);
  for (const auto& each : all) {
    arm(*each);
  }
  for (core::Ns deaths = random(1, 3); deaths > 0; --deaths) {
    sleep_ns(random(0, 200 * kMs));
    kill_and_restart();
  }
  ends_->wait_for_all(20s);
  for (const auto& each : all) {
    check(*each);
  }
  longest_stall_ = std::max(longest_stall_, ends_->longest_stall());
  for (const Sleeper* each : {&unguarded, &patient, &small, &released}) {
    EXPECT_TRUE(each->alive()) << "a bystander";
  }
  EXPECT_TRUE(wait_until([&] { return list().size() == 2; }, 20s)) << list().size() << " guards";
  EXPECT_EQ(act(proto::Op::kRelease, long_one).status, proto::Status::kOk);
  EXPECT_EQ(act(proto::Op::kRelease, large_one).status, proto::Status::kOk);
  gaps_.clear();
}

void AgentDeath::print() const {
  std::printf("%d agents died; late beyond the time without one, ms:\n", deaths_);
  std::printf("  %-22s %7s %7s %7s %7s\n", "target", "ends", "p50", "p99", "max");
  for (const auto& [name, unsorted] : late_) {
    std::vector<core::Ns> sorted = unsorted;
    std::sort(sorted.begin(), sorted.end());
    const auto at = [&](double part) {
      const auto place = static_cast<std::size_t>(part * static_cast<double>(sorted.size() - 1));
      return static_cast<double>(sorted[place]) / 1e6;
    };
    std::printf("  %-22s %7zu %7.2f %7.2f %7.2f\n", name.c_str(), sorted.size(), at(0.5), at(0.99),
                at(1));
  }
  std::printf("  the observer itself was held up for at most %.1f ms\n",
              static_cast<double>(longest_stall_) / 1e6);
}

TEST_F(AgentDeath, LosesNoGuard) {
  const char* wanted = std::getenv("PROCGUARD_TEST_ROUNDS");
  const int rounds = wanted == nullptr ? 30 : std::atoi(wanted);
  const Sleeper storm(&Victim::fork_without_end);
  const Sleeper spinner(&Victim::spin);
  for (int i = 0; i < rounds && !HasFatalFailure(); ++i) {
    round();
    if (HasFailure()) {
      std::printf("in round %d\n", i);
    }
  }
  print();
}

}  // namespace
}  // namespace procguard::test
