// SPDX-License-Identifier: Apache-2.0
// Guards as an agent would tell of them, for tests of what is made of them.
#pragma once

#include <csignal>
#include <string>

#include "core/clock.h"
#include "core/guard.h"
#include "proto/codec.h"

namespace procguard::test {

inline constexpr core::Ns kRowNow = 5000 * core::kSecond;

// A tree under a timeout of 2 s, armed 500 ms ago, and a memory limit of 64 MiB, of which 12 are
// used.
inline proto::RowBody row_of(std::uint64_t id, const std::string& name = "nightly",
                             const std::string& comm = "make") {
  core::GuardSpec spec;
  spec.name = name;
  spec.scope = PG_SCOPE_TREE;
  spec.timeout_ns = 2 * core::kSecond;
  spec.memory_bytes = 64U << 20;
  spec.ladder = core::preset_ladder(core::Preset::kSignal, true);
  spec.origin = PG_ORIGIN_ATTACH;
  proto::RowBody row;
  row.guard = core::make_guard(spec, id).value();
  row.guard.phase = PG_GUARD_ARMED;
  row.guard.pid = 4242;
  row.guard.armed_ns = kRowNow - 500 * core::kMillisecond;
  row.guard.limit[PG_TIMEOUT].base = row.guard.armed_ns;
  row.guard.limit[PG_TIMEOUT].due_ns = row.guard.armed_ns + spec.timeout_ns;
  row.now_ns = kRowNow;
  row.cpu_ns = 250 * core::kMillisecond;
  row.memory_bytes = 12U << 20;
  row.memory_peak_bytes = 14U << 20;
  row.processes = 3;
  proto::put_text(row.comm, comm);
  return row;
}

// A step of the memory limit of such a guard.
inline proto::EventBody step_event(std::uint64_t seq, std::uint32_t index, pg_result result) {
  proto::EventBody body;
  body.seq = seq;
  body.real_ns = 1'767'607'872'345'678'901;
  body.scope = PG_SCOPE_TREE;
  body.owner_uid = 1000;
  body.over_since_ns = kRowNow - core::kSecond;
  pg_event& event = body.event;
  event.abi = PG_ABI;
  event.kind = PG_EVENT_STEP;
  event.at_ns = kRowNow + 12'345;
  event.due_ns = kRowNow;
  event.guard = 12;
  event.limit = 64U << 20;
  event.observed = (64U << 20) + 4096;
  event.resource = PG_MEMORY;
  event.pid = 4242;
  event.step = index;
  event.action = PG_ACTION_SIGNAL;
  event.signal = SIGTERM;
  event.by = PG_BY_CONTROLLER;
  event.result = result;
  proto::put_text(event.name, "nightly");
  return body;
}

}  // namespace procguard::test
