// SPDX-License-Identifier: Apache-2.0
// LocalGuarding: `procguard run` keeps the guard itself. It ends with run: who kills run with
// SIGKILL leaves the command unguarded.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "cli/guard_words.h"
#include "cli/guarding.h"
#include "engine/controller.h"
#include "engine/executor.h"
#include "engine/pidfd_signaler.h"

namespace procguard::cli {

class LocalGuarding final : public Guarding {
 public:
  // `weaker_because`: out; see ChosenGuarding.
  static Result<std::unique_ptr<LocalGuarding>> create(const GuardingHost& host,
                                                       std::string& weaker_because);

  const char* source() const override { return source_->name(); }
  const char* membership() const override { return source_->membership(); }
  bool needs_subreaper() const override { return !kernel_tells(); }
  std::string reference() const override { return kOwnGuard; }
  std::string socket() const override { return {}; }
  bool must_be_quick() const override { return kernel_tells(); }
  Result<void> arm(const Subject& subject) override;
  Result<void> watch_fds(sys::EventLoop& loop) override;
  Result<void> start() override;
  void progress() override { controller_.progress(id_); }
  void command_ended() override;
  void release() override { controller_.release(id_); }
  core::Ns next_due() override;
  void on_time() override;
  bool busy() const override { return controller_.busy(); }
  void end_members() override;
  bool ending() const override { return sweep_at_ != core::kNever; }
  const pg_guard& guard() const override;
  bool in_force() const override { return guard().phase == PG_GUARD_ARMED; }
  Reach reach() const override { return Reach::kThere; }
  Result<engine::Levels> levels() override { return controller_.levels(id_); }
  Result<engine::Usage> usage() override { return controller_.usage(id_); }
  bool is_member(pid_t pid, uid_t uid) override;

 private:
  // Lets the recorder look at the threads before the first signal is sent, and keeps who got one.
  class LookingSignaler final : public engine::Signaler {
   public:
    LookingSignaler(LocalGuarding& guarding, const GuardingHost& host)
        : guarding_(guarding), host_(host) {}
    Result<void> send(int pidfd, int signal) override;
    Result<void> send_thread(pid_t pid, pid_t tid, int signal) override;
    Result<void> kill_cgroup(const std::string& path, std::uint64_t id) override;

   private:
    void look();
    LocalGuarding& guarding_;
    const GuardingHost& host_;
    engine::PidfdSignaler real_;
  };

  LocalGuarding(const GuardingHost& host, std::unique_ptr<engine::Source> source);
  bool kernel_tells() const { return std::string_view(source_->name()) == "bpf"; }
  void sweep();

  GuardingHost host_;
  std::unique_ptr<engine::Source> source_;
  LookingSignaler signaler_;
  engine::Executor executor_;
  engine::Controller controller_;
  std::uint64_t id_ = 0;
  pid_t pid_ = 0;
  core::Ns sweep_at_ = core::kNever;  // of members that are to be ended
  core::Ns sweep_until_ = 0;
};

}  // namespace procguard::cli
