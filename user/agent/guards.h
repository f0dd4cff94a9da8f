// SPDX-License-Identifier: Apache-2.0
// Guards: what clients may do with guards, carried out on the controller. Checks authority, keeps
// names, labels and ended guards, turns the controller's news into events. One thread: the agent's.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "agent/authority.h"
#include "agent/config.h"
#include "agent/ended.h"
#include "agent/event_log.h"
#include "agent/log.h"
#include "agent/targets.h"
#include "engine/bpf_source.h"
#include "engine/controller.h"
#include "engine/event_sink.h"

namespace procguard::agent {

class Guards final : public engine::EventSink {
 public:
  Guards(const Config& config, const core::Clock& clock, engine::BpfSource& source,
         const Targets& targets, EventLog& events, Log& log)
      : config_(config),
        clock_(clock),
        source_(source),
        targets_(targets),
        events_(events),
        log_(log) {}

  void use(engine::Controller& controller) { controller_ = &controller; }

  // --- requests; each answers with a refusal, or does it and fills in the reply
  // `owner`: a number of the connection, which ends the guard if it asks for that.
  std::optional<Denial> attach(const Asker& asker, const proto::AttachBody& wanted, sys::Fd fd,
                               std::uint64_t owner, proto::ArmedBody& armed);
  std::optional<Denial> start(const Asker& asker, const proto::StartBody& which);
  std::optional<Denial> set(const Asker& asker, const proto::SetBody& wanted, std::uint64_t& id);
  enum class Verb { kPause, kResume, kRelease, kProgress };
  std::optional<Denial> act(const Asker& asker, const proto::RefBody& which, Verb verb,
                            std::uint64_t& id);
  std::optional<Denial> show(const Asker& asker, const proto::RefBody& which,
                             proto::ShowBody& shown, std::vector<proto::ThreadBody>& threads);
  // The next row that the asker may see; false: there is none.
  bool next_row(const Asker& asker, const proto::ListBody& wanted, std::uint64_t after,
                proto::RowBody& row);
  void connection_closed(std::uint64_t owner);

  // --- the agent's
  // Takes over the guards that an earlier agent left; how many.
  std::size_t adopt_all();
  // When on_time() wants to be called; core::kNever: not at all.
  core::Ns next_due() const { return awaited_.empty() ? core::kNever : awaited_until_; }
  void on_time();
  // Guards that have ended leave the controller: not while it is at work.
  void retire();
  const pg_guard* guard(std::uint64_t id) const { return controller_->find(id); }
  std::size_t live() const { return controller_->size(); }
  std::size_t ended() const { return ended_.size(); }
  bool may_signal(const engine::Target& target, pid_t pid) const;
  // An event that is about the agent, not a guard.
  void tell(pg_event event);
  // Called for each event, numbered.
  void on_news(std::function<void(const proto::EventBody&)> news) { news_ = std::move(news); }

  void on_event(const pg_guard& guard, const pg_event& event,
                const engine::Outcome* outcome) override;

 private:
  std::optional<Denial> find(const Asker& asker, const proto::RefBody& which, std::uint64_t& id);
  std::optional<Denial> arm(const core::GuardSpec& spec, const HeldTarget& held,
                            const proto::AttachBody& wanted, std::uint64_t& id);
  proto::RowBody row_of(const pg_guard& guard);
  // Without `usage` the threads are not asked for theirs.
  proto::ShowBody show_of(const pg_guard& guard, const engine::Usage* usage);
  void adopt_one(const pg_guard& guard);
  bool target_of(const pg_guard& guard, engine::Target& target) const;
  void forget(std::uint64_t id);
  Result<void> begin(std::uint64_t id, core::Ns at_ns);
  void begin_held(const std::set<std::uint64_t>& ids);

  const Config& config_;
  const core::Clock& clock_;
  engine::BpfSource& source_;
  const Targets& targets_;
  EventLog& events_;
  Log& log_;
  engine::Controller* controller_ = nullptr;
  Ended ended_;
  // Of live guards; the one that was made last is found.
  std::map<std::pair<uid_t, std::string>, std::set<std::uint64_t>> by_name_;
  std::unordered_map<uid_t, std::uint32_t> per_uid_;
  using ByConnection = std::map<std::uint64_t, std::set<std::uint64_t>>;
  ByConnection of_connection_;       // sessions' guards: they end with it
  ByConnection held_;                // guards that wait to be started by it
  std::set<std::uint64_t> awaited_;  // adopted, waiting to be started by a client of the last agent
  core::Ns awaited_until_ = core::kNever;
  std::vector<std::uint64_t> over_;  // ended, still to be retired
  std::function<void(const proto::EventBody&)> news_;
};

}  // namespace procguard::agent
