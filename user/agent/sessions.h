// SPDX-License-Identifier: Apache-2.0
// Sessions: programs with guards of their own. Each has a page that says which are entered, and a
// watch on its memory with the two thresholds that it asked for. A session ends with its
// connection, or with its process. One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "agent/authority.h"
#include "agent/connection.h"
#include "agent/targets.h"
#include "engine/bpf_source.h"
#include "proto/page.h"

namespace procguard::agent {

class Sessions {
 public:
  Sessions(const core::Clock& clock, engine::BpfSource& source, const Targets& targets);
  Sessions(const Sessions&) = delete;
  Sessions& operator=(const Sessions&) = delete;
  ~Sessions();

  // `page`: the memfd.
  std::optional<Denial> open(const Connection& connection, sys::Fd page,
                             proto::SessionReply& reply);
  std::optional<Denial> set(const Connection& connection, const proto::ThresholdsBody& wanted,
                            proto::LevelBody& level);
  void close(std::uint64_t connection);
  // A watch that is no guard's has news; whose connection is to hear what. Nothing: it is not a
  // session's, or there is nothing to tell.
  std::optional<std::uint64_t> crossed(engine::WatchId watch, proto::LevelBody& level);
  // The next guard that a program shows, after this id (ids above kFirstId); false: there is none.
  bool next_row(const Asker& asker, std::uint64_t after, proto::RowBody& row) const;
  std::size_t size() const { return sessions_.size(); }

  // Ids of guards in lists: above those of the agent's own guards.
  static constexpr std::uint64_t kFirstId = 1ULL << 48;

 private:
  struct Session;
  proto::LevelBody level_of(const Session& session);
  std::optional<Denial> check_process(const Connection& connection, const sys::Fd& pidfd);
  bool lives(const Session& session);
  static bool read_slot(const proto::Page& page, std::uint32_t index, proto::PageSlot& slot);

  const core::Clock& clock_;
  engine::BpfSource& source_;
  const Targets& targets_;
  std::map<std::uint64_t, std::unique_ptr<Session>> sessions_;  // by connection
  std::map<engine::WatchId, std::uint64_t> by_watch_;
};

}  // namespace procguard::agent
