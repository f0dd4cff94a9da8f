// SPDX-License-Identifier: Apache-2.0
#include "agent/authority.h"

#include <algorithm>

#include "core/clock.h"
#include "core/guard.h"
#include "core/units.h"

namespace procguard::agent {
namespace {

using proto::AttachBody;

// How long others than root may have an exceeded limit wait for its next step.
constexpr core::Ns kLongestWait = 3600 * core::kSecond;
// A refusal has to fit into one ErrorBody; of a path its end says most.
constexpr std::size_t kPathShown = 80;

constexpr const char* kProtected =
    "is not guarded for anybody (permitted: any but init, kernel threads, the agent and what holds "
    "it)";

Denial denied(std::string text) {
  return {.status = proto::Status::kNotPermitted, .text = std::move(text)};
}

std::string who(const Asker& asker) {
  return "uid " + std::to_string(asker.uid);
}

std::string what(const TargetFacts& target) {
  if (target.scope != PG_SCOPE_CGROUP) {
    return (target.scope == PG_SCOPE_TREE ? "the tree of pid " : "pid ") +
           std::to_string(target.pid);
  }
  const std::string& path = target.cgroup;
  return "cgroup " +
         (path.size() > kPathShown ? "..." + path.substr(path.size() - kPathShown) : path);
}

bool is_memory(std::size_t resource) {
  return resource == PG_MEMORY || resource == PG_MEMORY_GROWTH;
}

std::string amount(std::size_t resource, std::uint64_t value) {
  return is_memory(resource) ? core::format_size(value) : core::format_duration(value);
}

std::string scopes_text(std::uint32_t scopes) {
  std::string text;
  for (std::uint32_t scope = PG_SCOPE_THREAD; scope <= PG_SCOPE_CGROUP; ++scope) {
    if (((scopes >> scope) & 1U) != 0) {
      text += (text.empty() ? "" : ", ") + std::string(core::scope_name(scope));
    }
  }
  return text.empty() ? "none" : text;
}

std::optional<Denial> check_protected(const TargetFacts& target) {
  const std::string name = what(target);
  const bool cgroup = target.scope == PG_SCOPE_CGROUP;
  if (cgroup && target.cgroup == "/") {
    return denied(name + ", the root of the hierarchy, " + kProtected);
  }
  if (target.agent) {
    return denied(name + ", the agent itself, " + kProtected);
  }
  if (target.holds_agent) {
    return denied(name + ", which holds the agent, " + kProtected);
  }
  if (!cgroup && target.pid == 1) {
    return denied(name + ", the init of the agent's pid namespace, " + kProtected);
  }
  if (!cgroup && target.kernel_thread) {
    return denied(name + ", a kernel thread, " + kProtected);
  }
  return std::nullopt;
}

// -1 is "not known", never somebody's.
bool owns(const Asker& asker, uid_t uid) {
  return uid == asker.uid && uid != static_cast<uid_t>(-1);
}

// kill(2) would take one of the two uids. A set-uid program keeps its caller's real one: with both
// asked for, nobody guards what has become somebody else.
std::optional<Denial> check_target_owner(const Asker& asker, const TargetFacts& target) {
  const std::string start = who(asker) + " may not guard " + what(target);
  if (target.scope == PG_SCOPE_CGROUP) {
    if (owns(asker, target.cgroup_uid)) {
      return std::nullopt;
    }
    return denied(start + ": its directory is owned by uid " + std::to_string(target.cgroup_uid) +
                  " (permitted: cgroups whose directory the asker owns)");
  }
  if (owns(asker, target.real_uid) && owns(asker, target.saved_uid)) {
    return std::nullopt;
  }
  return denied(start + " of real uid " + std::to_string(target.real_uid) + ", saved uid " +
                std::to_string(target.saved_uid) + " (permitted: processes with both the asker's)");
}

std::optional<Denial> check_scope(const Asker& asker, const TargetFacts& target,
                                  const Ceiling& ceiling) {
  if (target.scope < 32 && ((ceiling.scopes >> target.scope) & 1U) != 0) {
    return std::nullopt;
  }
  return denied(who(asker) + " may not guard " + what(target) + ": scope " +
                core::scope_name(target.scope) +
                " is for root (permitted: " + scopes_text(ceiling.scopes) + ")");
}

std::optional<Denial> check_all_limited(const Asker& asker, const AttachBody& wanted,
                                        const Ceiling& ceiling) {
  for (std::size_t i = 0; i < PG_RESOURCES; ++i) {
    if (ceiling.limit[i] != 0 && wanted.limit[i] == 0) {
      return denied(who(asker) + " may not leave out the limit " +
                    core::resource_name(static_cast<std::uint32_t>(i)) +
                    ": it has a ceiling (permitted: up to " + amount(i, ceiling.limit[i]) + ")");
    }
  }
  return std::nullopt;
}

// A limit whose steps are never due is none.
std::optional<Denial> check_waits(const Asker& asker, const AttachBody& wanted) {
  const auto too_long = [&](const std::string& name, core::Ns wait) -> std::optional<Denial> {
    if (wait <= kLongestWait) {
      return std::nullopt;
    }
    return denied(who(asker) + " may not have " + name + " of " + core::format_duration(wait) +
                  " (permitted: up to " + core::format_duration(kLongestWait) + ")");
  };
  if (auto denial = too_long("a grace", wanted.grace_ns)) {
    return denial;
  }
  if (auto denial = too_long("a step grace", wanted.step_grace_ns)) {
    return denial;
  }
  for (std::uint32_t i = 0; i < std::min<std::uint32_t>(wanted.steps, PG_STEPS); ++i) {
    if (auto denial =
            too_long("a wait after step " + std::to_string(i), wanted.ladder[i].wait_ns)) {
      return denial;
    }
  }
  return std::nullopt;
}

std::optional<Denial> check_quota(const Asker& asker, const Ceiling& ceiling,
                                  std::uint32_t guards) {
  if (guards < ceiling.max_guards_per_uid) {
    return std::nullopt;
  }
  return denied(who(asker) + " may not have one more guard: it has " + std::to_string(guards) +
                " (permitted: " + std::to_string(ceiling.max_guards_per_uid) + ")");
}

}  // namespace

std::optional<Denial> check_attach(const Asker& asker, const TargetFacts& target,
                                   const AttachBody& wanted, const Ceiling& ceiling,
                                   std::uint32_t guards) {
  auto denial = check_protected(target);
  if (denial || asker.root()) {
    return denial;
  }
  if (!denial) {
    denial = check_scope(asker, target, ceiling);
  }
  if (!denial) {
    denial = check_target_owner(asker, target);
  }
  if (!denial) {
    denial = check_all_limited(asker, wanted, ceiling);
  }
  if (!denial) {
    denial = check_limits(asker, wanted.limit, ceiling);
  }
  if (!denial) {
    denial = check_waits(asker, wanted);
  }
  return denial ? denial : check_quota(asker, ceiling, guards);
}

std::optional<Denial> check_number(const Asker& asker) {
  if (!asker.root()) {
    return denied(who(asker) +
                  " may not name a target by number (permitted: a pidfd, the directory of a "
                  "cgroup; numbers are for root)");
  }
  if (!asker.same_pid_namespace) {
    return denied(
        "root of another pid namespace may not name a target by number: the agent would take it "
        "for one of its own (permitted: a pidfd)");
  }
  return std::nullopt;
}

std::optional<Denial> check_owner(const Asker& asker, uid_t owner, std::uint64_t guard) {
  if (asker.root() || owns(asker, owner)) {
    return std::nullopt;
  }
  return denied(who(asker) + " may not change guard g" + std::to_string(guard) + " of uid " +
                std::to_string(owner) + " (permitted: guards of one's own)");
}

std::optional<Denial> check_limits(const Asker& asker, const std::uint64_t (&limit)[PG_RESOURCES],
                                   const Ceiling& ceiling) {
  for (std::size_t i = 0; i < PG_RESOURCES; ++i) {
    const std::string name = core::resource_name(static_cast<std::uint32_t>(i));
    if (limit[i] > INT64_MAX) {
      return Denial{.status = proto::Status::kInvalid,
                    .text = "the limit " + name + " is " + std::to_string(limit[i]) +
                            " (expected at most " + std::to_string(INT64_MAX) + ")"};
    }
    if (!asker.root() && ceiling.limit[i] != 0 && limit[i] > ceiling.limit[i]) {
      return denied(who(asker) + " may not set the limit " + name + " to " + amount(i, limit[i]) +
                    " (permitted: up to " + amount(i, ceiling.limit[i]) + ")");
    }
  }
  return std::nullopt;
}

}  // namespace procguard::agent
