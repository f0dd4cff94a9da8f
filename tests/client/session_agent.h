// SPDX-License-Identifier: Apache-2.0
// SessionAgent: a thread that speaks the agent's side of a session, well or badly, for a program
// that is this process. It watches by looking at /proc.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <thread>

#include "proto/codec.h"
#include "proto/page.h"
#include "sys/fd.h"
#include "sys/seqpacket.h"

namespace procguard::test {

enum class Manner {
  kHonest,
  // At the request for a session.
  kRefuses,
  kSaysNothing,
  kHangsUp,
  kSessionWrongOp,
  kSessionOtherRequest,
  kSessionTwoBodies,
  kSessionUnasked,
  // At the thresholds.
  kLevelHangsUp,
  kLevelSaysNothing,
  kLevelWrongOp,
  kLevelIsError,
  kLevelShortBody,
  kLevelTooLong,
  kLevelGarbage,
  kLevelEmptyRecord,
  kLevelWithFd,
  // Honest but for the numbers.
  kAbsurdNumbers,
};

class SessionAgent {
 public:
  // Throws where it cannot listen.
  explicit SessionAgent(std::string path, Manner manner = Manner::kHonest);
  SessionAgent(const SessionAgent&) = delete;
  SessionAgent& operator=(const SessionAgent&) = delete;
  // Dies: the connections are closed, nobody listens.
  ~SessionAgent();

  // Tells of crossings by itself (the default), or not.
  void look_away(bool away) { blind_ = away; }
  // Says now that both thresholds were crossed, whether they were or not.
  void tell_level() { tell_ = true; }

  int sessions() const { return sessions_; }
  std::uint64_t threshold(std::size_t index) const { return thresholds_[index]; }
  // The page of the last session; nullptr before. Where it was not what it has to be: bad_page().
  const proto::Page* page() const { return page_; }
  bool bad_page() const { return bad_page_; }

 private:
  struct Limit {
    std::uint64_t over_since_ns = 0;
    std::uint64_t set_over_since_ns = 0;
    std::uint64_t episodes = 0;
  };

  void run();
  void accept();
  void serve();
  void answer_session(const proto::Message& request, std::vector<sys::Fd> fds);
  void answer_thresholds(const proto::Message& request);
  void map_page(const sys::Fd& memfd);
  // True: something was crossed.
  bool look();
  void send_level(std::uint32_t request);
  void send(proto::Writer& record, const std::vector<int>& fds = {});
  void send_raw(std::size_t bytes);
  void hang_up();

  const std::string path_;
  const Manner manner_;
  std::optional<sys::SeqPacket> listener_;
  std::optional<sys::SeqPacket> program_;
  std::array<Limit, 2> limits_;
  std::atomic<bool> stop_{false};
  std::atomic<bool> blind_{false};
  std::atomic<bool> tell_{false};
  std::atomic<int> sessions_{0};
  std::array<std::atomic<std::uint64_t>, 2> thresholds_{};
  std::atomic<const proto::Page*> page_{nullptr};
  std::atomic<bool> bad_page_{false};
  std::thread thread_;
};

}  // namespace procguard::test
