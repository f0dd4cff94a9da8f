// SPDX-License-Identifier: Apache-2.0
// AgentGuarding: an agent keeps the guard and takes the steps; what it does is heard as events. The
// guard outlives `procguard run`, and an agent that goes leaves it to the next one: meanwhile the
// command runs on, and the agent is looked for: at once, then less often, every second at last.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/guard_link.h"
#include "cli/guard_view.h"
#include "cli/guarding.h"

namespace procguard::cli {

class AgentGuarding final : public Guarding {
 public:
  // Error codes: ENOENT, ECONNREFUSED: no agent is running there; EACCES: not permitted.
  static Result<std::unique_ptr<AgentGuarding>> connect(const std::string& socket,
                                                        const GuardingHost& host);

  const char* source() const override { return "agent"; }
  const char* membership() const override { return "bpf"; }
  bool needs_subreaper() const override { return false; }
  std::string reference() const override { return guard_number(state_.id); }
  std::string socket() const override;
  bool must_be_quick() const override { return false; }
  Result<void> arm(const Subject& subject) override;
  Result<void> watch_fds(sys::EventLoop& loop) override;
  Result<void> start() override;
  void progress() override;
  void command_ended() override;
  void release() override;
  core::Ns next_due() override;
  void on_time() override;
  bool busy() const override { return sweep_at_ != core::kNever; }
  void end_members() override {}  // not by an agent: run chooses to keep the guard itself then
  bool ending() const override { return false; }
  const pg_guard& guard() const override { return state_; }
  bool in_force() const override {
    return state_.phase == PG_GUARD_ARMED && (connected() || away());
  }
  Reach reach() const override;
  // As last heard while the agent is away.
  Result<engine::Levels> levels() override;
  Result<engine::Usage> usage() override;
  bool is_member(pid_t pid, uid_t uid) override;

 private:
  AgentGuarding(std::string socket, const GuardingHost& host, GuardLink ask, GuardLink events);

  bool connected() const { return ask_.has_value() && events_.has_value(); }
  // What is of no more use is let go; true: there is a value.
  template <typename Value>
  bool took(const Result<Value>& answer) {
    if (ask_ && ask_->lost()) {
      lose();
    }
    return answer.ok();
  }
  bool refresh();
  bool agent_knows(pid_t pid, uid_t uid);

  // --- agent_absence.cpp
  bool away() const { return retry_at_ != core::kNever; }  // and looked for
  core::Ns patience() const;
  engine::Levels last_heard() const;
  void lose();
  void say_gone();
  void look_for_agent();
  Result<void> reconnect();
  Result<void> take_up_again(GuardLink& ask);
  bool is_ours(const pg_guard& guard) const;
  void give_up();
  void send_progress();

  // --- agent_events.cpp
  void on_events();
  void read_events(core::Ns until);
  void hear_all(core::Ns patience);
  bool step_is_missing() const;
  void tell_missing_steps();
  void tell(const std::vector<proto::EventBody>& bodies);
  void on_event(const proto::EventBody& body);
  engine::Outcome outcome_of(const proto::EventBody& body) const;
  void note_step(const proto::EventBody& body, const engine::Outcome& outcome);
  pid_t here(std::uint32_t pid) const;

  std::string socket_;
  GuardingHost host_;
  std::optional<GuardLink> ask_;
  std::optional<GuardLink> events_;
  sys::EventLoop* loop_ = nullptr;
  std::uint64_t agent_started_ns_ = 0;  // which agent it is

  Subject subject_;
  std::uint32_t pid_there_ = 0;  // of the command, in the agent's pid namespace
  pg_guard state_{};
  engine::Levels levels_;
  engine::Usage usage_;
  bool with_command_ = false;  // it is one of the processes in levels_
  core::Ns executed_ns_ = 0;
  core::Ns ended_ns_ = 0;
  core::Ns lost_ns_ = 0;         // when the agent was
  bool started_ = false;         // the agent knows that the command was executed
  bool ended_ = false;           // the command has
  bool released_ = false;        // by us
  bool said_gone_ = false;       // that the agent has
  bool progress_waits_ = false;  // for an agent
  std::uint64_t heard_seq_ = 0;  // of the last event
  core::Ns heard_step_ns_ = 0;   // of the last step
  std::vector<proto::EventBody> untold_;
  bool telling_ = false;
  core::Ns retry_at_ = core::kNever;  // when the agent is looked for again
  core::Ns retry_wait_ = 0;
  core::Ns sweep_at_ = core::kNever;  // when to see again whether a KILL has ended all members
  core::Ns sweep_until_ = 0;
  core::Ns ask_again_at_ = core::kNever;  // a cgroup that is empty is no event
};

}  // namespace procguard::cli
