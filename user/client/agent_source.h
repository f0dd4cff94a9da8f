// SPDX-License-Identifier: Apache-2.0
// AgentSource: this process's memory as an agent watches it, over one session. The agent says when
// a threshold is crossed; whoever can read the level itself does (OwnRss), so that a wrong answer
// can wake the monitor in vain or too late, and nothing else. Never waits: an answer is an event
// like others, and one that does not come is a lost session.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "engine/source.h"
#include "proto/codec.h"
#include "sys/seqpacket.h"

namespace procguard::client {

class AgentSource final : public engine::Source {
 public:
  // Asks for a session with this page. `socket`: one that does not wait.
  static Result<std::unique_ptr<AgentSource>> ask(const core::Clock& clock, sys::SeqPacket socket,
                                                  int page);

  // The agent has accepted the session: usable.
  bool accepted() const { return accepted_; }
  // Why nothing comes any more.
  const std::optional<Error>& lost() const { return lost_; }

  const char* name() const override { return "agent"; }
  const char* membership() const override { return "agent"; }
  // Itself; the session is about nothing else.
  Result<engine::WatchId> watch(const engine::Target& self) override;
  // Asked for here, in force when the agent has answered, which is an event.
  Result<void> set_thresholds(engine::WatchId watch, const engine::Thresholds& thresholds) override;
  // As the agent told last; a level of 0: it has not yet.
  Result<engine::Levels> levels(engine::WatchId watch) override;
  // Asks for the level anew, if it was over a threshold: for who cannot read it, and has to know
  // when it is not any more. Not more often than an agent should be asked.
  void ask_level();
  void acknowledge(engine::WatchId, int, const engine::ThresholdState&) override {}
  Result<void> read_memory(engine::WatchId) override { return {}; }  // it always is
  void set_failsafe(engine::WatchId, const engine::Failsafe&) override {}
  void acknowledge_failsafe(engine::WatchId) override {}
  void take_over(engine::WatchId) override {}
  Result<std::vector<engine::Member>> members(engine::WatchId) override;
  Result<sys::Fd> open_member(engine::WatchId, const engine::Member&) override;
  void doom(engine::WatchId) override {}
  Result<engine::Usage> usage(engine::WatchId) override;
  core::Ns exec_time(engine::WatchId, pid_t) override { return 0; }
  void release(engine::WatchId) override {}
  int event_fd() const override { return socket_.fd(); }
  std::vector<engine::WatchId> drain() override;
  core::Ns next_check(core::Ns now) override;
  void trace(const pg_event&) override {}
  void publish(const pg_guard&) override {}

 private:
  struct Slot {
    std::uint64_t bytes = 0;
    core::Ns set_ns = 0;  // when it was asked for
    core::Ns over_since_ns = 0;
    core::Ns set_over_since_ns = 0;
    std::uint64_t episodes = 0;
  };

  AgentSource(const core::Clock& clock, sys::SeqPacket socket)
      : clock_(clock), socket_(std::move(socket)) {}

  Result<void> send(proto::Writer& request, std::span<const int> fds);
  Result<void> ask_thresholds();
  void take(std::span<const std::byte> record);
  void take_session(const proto::Message& reply);
  void take_level(const proto::Message& message);
  void lose(Error why);

  const core::Clock& clock_;
  sys::SeqPacket socket_;
  std::uint32_t requests_ = 0;  // the number of the last one
  bool awaited_ = false;        // its answer has not come
  core::Ns asked_ns_ = 0;
  core::Ns answer_due_ns_ = core::kNever;
  bool accepted_ = false;
  std::optional<Error> lost_;
  std::uint64_t told_bytes_ = 0;
  std::array<Slot, 2> slots_;
};

}  // namespace procguard::client
