// SPDX-License-Identifier: Apache-2.0
// The guard machine from inside: guard.cpp has what each input does to a guard, machine.cpp how a
// limit climbs its ladder.
#pragma once

#include <utility>

#include "core/guard.h"

namespace procguard::core {

inline constexpr std::uint32_t kNotStarted = 0;  // pg_guard.phase between make_guard() and Start

inline bool is_memory(std::uint32_t resource) {
  return resource == PG_MEMORY || resource == PG_MEMORY_GROWTH;
}

inline bool can_step(const pg_limit& limit) {
  return limit.phase != PG_LIMIT_NONE && limit.phase != PG_LIMIT_DONE;
}

// One call of step(): the guard, the time, and what came of it.
class Machine {
 public:
  Machine(pg_guard& guard, Ns now) : guard_(guard), now_(now) {}

  void on(const Start& start);
  void on(const Tick&) { take_due(); }
  void on(const Progress&);
  void on(const Level& level);
  void on(const KernelActed& acted);
  void on(const StepResult& result);
  void on(const TargetGone&) { end(PG_GUARD_ENDED, PG_EVENT_TARGET_EXITED); }
  void on(const Release&) { end(PG_GUARD_RELEASED, PG_EVENT_RELEASED); }
  void on(const SetLimit& set);
  void on(const Pause& pause);
  void on(const Resume& resume);
  void on(const Adopt&);
  void on(const FailsafeActed& acted);

  Actions take_actions() { return std::move(actions_); }

 private:
  bool armed() const { return guard_.phase == PG_GUARD_ARMED; }
  bool acts() const { return armed() && guard_.paused_ns == 0; }
  void to_foot(std::uint32_t resource);
  void go_over(std::uint32_t resource, Ns over_since, std::uint64_t observed);
  void go_under(std::uint32_t resource, std::uint64_t observed);
  void take_due();
  std::uint32_t earliest_due() const;
  bool merges(std::uint32_t resource) const;
  void merge(std::uint32_t resource);
  void begin(std::uint32_t resource, Ns at, pg_by by, std::uint32_t kernel_pid);
  void advance(std::uint32_t resource);
  void end(pg_guard_phase phase, pg_event_kind kind);
  void emit(const pg_event& event) { actions_.push_back(Emit{event}); }
  void emit_step(std::uint32_t resource, std::uint32_t index, Ns at, Ns due, pg_by by,
                 pg_result result, int error);

  pg_guard& guard_;
  const Ns now_;
  Actions actions_;
};

}  // namespace procguard::core
