// SPDX-License-Identifier: Apache-2.0
// Who may guard what: each rule with what it lets through and what it refuses.
#include "agent/authority.h"

#include <gtest/gtest.h>

#include <csignal>
#include <functional>
#include <string>

#include "core/clock.h"
#include "proto/codec.h"

namespace procguard::agent {
namespace {

using core::kSecond;
using proto::AttachBody;
using proto::Status;

constexpr std::uint64_t kGiB = 1ULL << 30;
constexpr core::Ns kHour = 3600 * kSecond;

AttachBody some_request(std::uint32_t scope = PG_SCOPE_PROCESS) {
  AttachBody wanted;
  wanted.flags = proto::kHasFd;
  wanted.scope = scope;
  wanted.limit[PG_TIMEOUT] = 60 * kSecond;
  wanted.steps = 1;
  wanted.ladder[0] = {.action = PG_ACTION_SIGNAL, .signal = SIGTERM, .wait_ns = 0};
  return wanted;
}

TargetFacts own_process(std::uint32_t scope = PG_SCOPE_PROCESS) {
  TargetFacts target;
  target.scope = scope;
  target.pid = 4242;
  target.real_uid = 1000;
  target.saved_uid = 1000;
  return target;
}

TargetFacts own_cgroup() {
  TargetFacts target;
  target.scope = PG_SCOPE_CGROUP;
  target.cgroup = "/jobs/a";
  target.cgroup_uid = 1000;
  return target;
}

constexpr Asker kUser{.uid = 1000, .same_pid_namespace = true};
constexpr Asker kRoot{.uid = 0, .same_pid_namespace = true};

struct TargetRow {
  const char* description;
  TargetFacts target;
  const char* user;  // in the refusal; "" = permitted
  const char* root;
};

template <typename Change>
TargetFacts changed(TargetFacts target, Change change) {
  change(target);
  return target;
}

TEST(Authority, WhichTargets) {
  const TargetFacts own = own_process();
  const TargetFacts tree = own_process(PG_SCOPE_TREE);
  const TargetFacts cgroup = own_cgroup();
  const TargetRow rows[] = {
      {"its own process", own, "", ""},
      {"its own thread", own_process(PG_SCOPE_THREAD), "", ""},
      {"its own tree", tree, "", ""},
      {"its own cgroup", cgroup, "", ""},
      {"somebody else's process", changed(own, [](auto& t) { t.real_uid = t.saved_uid = 1001; }),
       "uid 1000 may not guard pid 4242 of real uid 1001", ""},
      {"a set-uid program that became root", changed(own, [](auto& t) { t.saved_uid = 0; }),
       "saved uid 0", ""},
      {"a process of root that runs for a user", changed(own, [](auto& t) { t.real_uid = 0; }),
       "real uid 0", ""},
      {"somebody else's tree", changed(tree, [](auto& t) { t.real_uid = t.saved_uid = 0; }),
       "the tree of pid 4242", ""},
      {"a process of which nothing is known",
       changed(own, [](auto& t) { t.real_uid = t.saved_uid = static_cast<uid_t>(-1); }),
       "may not guard", ""},
      {"somebody else's cgroup", changed(cgroup, [](auto& t) { t.cgroup_uid = 0; }),
       "cgroup /jobs/a: its directory is owned by uid 0", ""},
      {"its own process in no cgroup of its own", changed(own, [](auto& t) { t.cgroup_uid = 0; }),
       "", ""},
      {"init", changed(own, [](auto& t) { t.pid = 1; }), "init of", "init of"},
      {"init's tree", changed(tree, [](auto& t) { t.pid = 1; }), "init of", "init of"},
      {"a kernel thread", changed(own, [](auto& t) { t.kernel_thread = true; }), "a kernel thread",
       "a kernel thread"},
      {"the agent", changed(own, [](auto& t) { t.agent = true; }), "the agent itself",
       "the agent itself"},
      {"a tree that holds the agent", changed(tree, [](auto& t) { t.holds_agent = true; }),
       "holds the agent", "holds the agent"},
      {"a cgroup that holds the agent", changed(cgroup, [](auto& t) { t.holds_agent = true; }),
       "holds the agent", "holds the agent"},
      {"the root cgroup", changed(cgroup, [](auto& t) { t.cgroup = "/"; }), "root of the hierarchy",
       "root of the hierarchy"},
  };
  for (const TargetRow& row : rows) {
    for (const auto& [asker, refusal] : {std::pair(kUser, row.user), std::pair(kRoot, row.root)}) {
      const auto denial =
          check_attach(asker, row.target, some_request(row.target.scope), Ceiling(), 0);
      const std::string text = denial ? denial->text : "";
      EXPECT_EQ(text.empty(), *refusal == '\0') << row.description << ": " << text;
      EXPECT_NE(text.find(refusal), std::string::npos) << row.description << ": " << text;
      if (denial) {
        EXPECT_EQ(denial->status, Status::kNotPermitted) << row.description;
        EXPECT_NE(text.find("permitted: "), std::string::npos) << text;
        EXPECT_LT(text.size(), proto::kErrorText) << text;
      }
    }
  }
}

// An asker whose uid is not known owns nothing, also not what has no known owner.
TEST(Authority, AnUnknownAskerOwnsNothing) {
  TargetFacts target = own_process();
  target.real_uid = target.saved_uid = static_cast<uid_t>(-1);
  EXPECT_TRUE(check_attach(Asker(), target, some_request(), Ceiling(), 0));
  EXPECT_TRUE(check_owner(Asker(), static_cast<uid_t>(-1), 1));
}

TEST(Authority, ALongPathIsCutAtItsBeginning) {
  TargetFacts target = own_cgroup();
  target.cgroup = "/" + std::string(1000, 'a') + "/job";
  target.cgroup_uid = 0;
  const auto denial = check_attach(kUser, target, some_request(PG_SCOPE_CGROUP), Ceiling(), 0);
  ASSERT_TRUE(denial);
  EXPECT_NE(denial->text.find("aa/job"), std::string::npos);
  EXPECT_LT(denial->text.size(), proto::kErrorText);
}

Ceiling narrow() {
  Ceiling ceiling;
  ceiling.limit[PG_TIMEOUT] = 24 * kHour;
  ceiling.limit[PG_MEMORY] = 8 * kGiB;
  ceiling.scopes = 1U << PG_SCOPE_PROCESS | 1U << PG_SCOPE_TREE;
  ceiling.max_guards_per_uid = 10;
  return ceiling;
}

struct CeilingRow {
  const char* description;
  std::function<void(AttachBody&)> change;
  std::uint32_t guards;
  const char* refusal;  // "" = permitted
};

// What is refused here is permitted to root.
TEST(Authority, TheCeiling) {
  const CeilingRow rows[] = {
      {"within it", [](AttachBody&) {}, 9, ""},
      {"at it",
       [](AttachBody& b) {
         b.limit[PG_TIMEOUT] = 24 * kHour;
         b.limit[PG_MEMORY] = 8 * kGiB;
       },
       0, ""},
      {"a limit without a ceiling", [](AttachBody& b) { b.limit[PG_CPU] = 1000 * kHour; }, 0, ""},
      {"timeout above it", [](AttachBody& b) { b.limit[PG_TIMEOUT] = 24 * kHour + 1; }, 0,
       "limit timeout"},
      {"memory above it", [](AttachBody& b) { b.limit[PG_MEMORY] = 9 * kGiB; }, 0,
       "the limit memory to 9.0GiB (permitted: up to 8.0GiB)"},
      {"no timeout", [](AttachBody& b) { b.limit[PG_TIMEOUT] = 0; }, 0,
       "may not leave out the limit timeout"},
      {"no memory", [](AttachBody& b) { b.limit[PG_MEMORY] = 0; }, 0, "up to 8.0GiB"},
      {"a scope it does not have", [](AttachBody& b) { b.scope = PG_SCOPE_THREAD; }, 0,
       "scope thread is for root (permitted: process, tree)"},
      {"grace at the bound", [](AttachBody& b) { b.grace_ns = kHour; }, 0, ""},
      {"grace above it", [](AttachBody& b) { b.grace_ns = kHour + 1; }, 0, "a grace of"},
      {"step grace above it", [](AttachBody& b) { b.step_grace_ns = kHour + 1; }, 0,
       "a step grace of"},
      {"a step's wait above it", [](AttachBody& b) { b.ladder[0].wait_ns = INT64_MAX; }, 0,
       "a wait after step 0"},
      {"a wait of no step", [](AttachBody& b) { b.ladder[1].wait_ns = INT64_MAX; }, 0, ""},
      {"the quota is used up", [](AttachBody&) {}, 10, "it has 10 (permitted: 10)"},
  };
  for (const CeilingRow& row : rows) {
    AttachBody wanted = some_request();
    wanted.limit[PG_MEMORY] = kGiB;
    row.change(wanted);
    const TargetFacts target = own_process(wanted.scope);
    const auto denial = check_attach(kUser, target, wanted, narrow(), row.guards);
    const std::string text = denial ? denial->text : "";
    EXPECT_EQ(text.empty(), *row.refusal == '\0') << row.description << ": " << text;
    EXPECT_NE(text.find(row.refusal), std::string::npos) << row.description << ": " << text;
    EXPECT_FALSE(check_attach(kRoot, target, wanted, narrow(), row.guards)) << row.description;
  }
}

TEST(Authority, NewLimits) {
  struct Row {
    const char* description;
    Asker asker;
    pg_resource resource;
    std::uint64_t limit;
    std::optional<Status> refused;
  };
  const Row rows[] = {
      {"nothing changes", kUser, PG_TIMEOUT, 0, std::nullopt},
      {"at the ceiling", kUser, PG_MEMORY, 8 * kGiB, std::nullopt},
      {"above the ceiling", kUser, PG_MEMORY, 8 * kGiB + 1, Status::kNotPermitted},
      {"above it, by root", kRoot, PG_MEMORY, 8 * kGiB + 1, std::nullopt},
      {"no ceiling", kUser, PG_CPU, INT64_MAX, std::nullopt},
      {"too large for anybody", kRoot, PG_CPU, 1ULL << 63, Status::kInvalid},
  };
  for (const Row& row : rows) {
    std::uint64_t limit[PG_RESOURCES] = {};
    limit[row.resource] = row.limit;
    const auto denial = check_limits(row.asker, limit, narrow());
    EXPECT_EQ(denial ? std::optional(denial->status) : std::nullopt, row.refused)
        << row.description;
  }
}

TEST(Authority, NumbersAreForRootOfTheSameNamespace) {
  EXPECT_FALSE(check_number(kRoot));
  const auto elsewhere = check_number({.uid = 0, .same_pid_namespace = false});
  ASSERT_TRUE(elsewhere);
  EXPECT_NE(elsewhere->text.find("another pid namespace"), std::string::npos);
  const auto user = check_number(kUser);
  ASSERT_TRUE(user);
  EXPECT_NE(user->text.find("permitted: a pidfd"), std::string::npos);
}

TEST(Authority, GuardsBelongToTheirOwners) {
  EXPECT_FALSE(check_owner(kUser, 1000, 12));
  EXPECT_FALSE(check_owner(kRoot, 1000, 12));
  const auto denial = check_owner(kUser, 0, 12);
  ASSERT_TRUE(denial);
  EXPECT_NE(denial->text.find("uid 1000 may not change guard g12 of uid 0"), std::string::npos);
}

}  // namespace
}  // namespace procguard::agent
