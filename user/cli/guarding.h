// SPDX-License-Identifier: Apache-2.0
// Guarding: who keeps the guard of one `procguard run`. Two live behind this interface: run itself
// (LocalGuarding: its own source, executor and controller) and an agent (AgentGuarding), whose
// guard outlives run. Events go to the recorder either way. One thread, that of the session.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>

#include "cli/departures.h"
#include "cli/messages.h"
#include "cli/recorder.h"
#include "cli/run_options.h"
#include "core/clock.h"
#include "core/result.h"
#include "engine/source.h"
#include "sys/cgroup.h"
#include "sys/event_loop.h"

namespace procguard::cli {

// What is guarded: the command that is held before its exec, or the cgroup it was started in.
struct Subject {
  pid_t pid = 0;
  int pidfd = -1;
  const sys::Cgroup* cgroup = nullptr;  // scope cgroup
};

// The parts of the session that a guarding uses; all outlive it.
struct GuardingHost {
  const RunOptions& options;
  Messages& messages;
  const core::Clock& clock;
  Recorder& recorder;
  Departures& departures;
};

// Can whoever keeps the guard be asked?
enum class Reach {
  kThere,
  kAwaited,  // it is away and may be back in a moment: what is known is old, and news may come
  kAway,     // for long; it is looked for
};

class Guarding {
 public:
  virtual ~Guarding() = default;

  virtual const char* source() const = 0;      // "agent", "bpf", "procfs"
  virtual const char* membership() const = 0;  // "bpf", "subreaper", "cgroup"
  // Orphans of the tree are known as members only if they become children of this process.
  virtual bool needs_subreaper() const = 0;
  // What the command finds in its environment: the guard by a number that is no other guard's, and
  // where the agent listens that knows it (empty: none does).
  virtual std::string reference() const = 0;
  virtual std::string socket() const = 0;
  // Steps are taken by this process, as soon as the kernel tells it of a crossing.
  virtual bool must_be_quick() const = 0;

  // From now on no member escapes; nothing trips before start().
  virtual Result<void> arm(const Subject& subject) = 0;
  virtual Result<void> watch_fds(sys::EventLoop& loop) = 0;
  // The command has completed its exec.
  virtual Result<void> start() = 0;
  virtual void progress() = 0;
  // The command has ended: what became of it by a step is told before this returns.
  virtual void command_ended() = 0;
  virtual void release() = 0;

  // When on_time() is wanted at the latest; kNever if nothing is due.
  virtual core::Ns next_due() = 0;
  virtual void on_time() = 0;
  // Members of a target that got the last SIGKILL are still being ended.
  virtual bool busy() const = 0;
  // Kills the members that live on, for as long as ending() says so.
  virtual void end_members() = 0;
  virtual bool ending() const = 0;

  // As it was last known; id 0: not armed.
  virtual const pg_guard& guard() const = 0;
  // Somebody takes the steps that are due, or will once he is back.
  virtual bool in_force() const = 0;
  virtual Reach reach() const = 0;
  virtual Result<engine::Levels> levels() = 0;
  virtual Result<engine::Usage> usage() = 0;
  // May this process speak for the target?
  virtual bool is_member(pid_t pid, uid_t uid) = 0;
};

// What people and the agent's commands call it: its name, else "g" and its id.
std::string guard_name(const pg_guard& guard);

struct ChosenGuarding {
  std::unique_ptr<Guarding> guarding;
  std::string weaker_because;    // why its source is weaker than it could be; empty: it is not
  std::string no_agent_because;  // why an agent that seems to be there is not used; mostly empty
};

// The agent where one runs and nothing speaks against it, else run's own. Error: what the options
// ask for cannot be had.
Result<ChosenGuarding> choose_guarding(const GuardingHost& host);
// Run's own, for when the agent has turned out to be of no use.
Result<ChosenGuarding> choose_local_guarding(const GuardingHost& host);
// The answer to arm() was that of an agent without which run may do it itself.
bool may_do_without_agent(const RunOptions& options, const Guarding& guarding,
                          const Error& refusal);

}  // namespace procguard::cli
