// SPDX-License-Identifier: Apache-2.0
// Server: the listening socket and its connections on the agent's loop. It reads records, hands
// them to a handler, and keeps slow and hostile clients from mattering to anybody else: a bounded
// number of connections, of records and of time a turn, and of waiting replies. One thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "agent/connection.h"
#include "agent/descriptors.h"
#include "core/clock.h"
#include "sys/event_loop.h"

namespace procguard::agent {

class Server {
 public:
  using Handler = std::function<void(Connection&, const proto::Message&, std::vector<sys::Fd> fds)>;
  using Closed = std::function<void(Connection&)>;
  // Sends events to a connection that follows them, until there are none or it does not read.
  using Pump = std::function<void(Connection&)>;

  Server(sys::EventLoop& loop, const core::Clock& clock, Handler handler, Closed closed, Pump pump);

  // Listens at `path`: made with its directory, 0660 root:`group`; a group that does not exist
  // leaves it to root.
  Result<void> listen(const std::string& path, const std::string& group);

  // Something happened that followers want to hear of.
  void news() { news_ = true; }
  bool has_news() const { return news_; }
  // After each turn of the loop: closes what is broken, serves followers. What these come to may be
  // news: again, then.
  void tidy();
  // When a client that asked too much may be read again.
  core::Ns next_due() const;
  std::size_t size() const { return connections_.size(); }
  Connection* find(std::uint64_t id);
  // The socket's path goes; nobody is heard any more.
  void stop();

 private:
  void on_connect();
  void admit(sys::SeqPacket socket);
  void on_ready(std::uint64_t id, std::uint32_t events);
  void serve(std::uint64_t id, std::uint32_t events);
  bool turn_is_over();
  core::Ns out_of_time_until(uid_t uid);
  bool read_one(Connection& connection);
  void discard(Connection& connection);
  void watch(Connection& connection);

  sys::EventLoop& loop_;
  const core::Clock& clock_;
  Handler handler_;
  Closed closed_;
  Pump pump_;
  std::string path_;
  std::optional<sys::SeqPacket> socket_;
  std::map<std::uint64_t, std::unique_ptr<Connection>> connections_;
  std::map<std::uint64_t, std::uint32_t> watched_;  // epoll events by connection
  std::map<uid_t, std::size_t> per_uid_;
  struct Share {
    core::Ns since = 0;
    core::Ns used = 0;
  };
  std::map<uid_t, Share> shares_;  // of the loop's time, whichever connection took it
  Descriptors descriptors_;
  std::vector<std::byte> buffer_;
  std::uint64_t next_id_ = 1;
  core::Ns turn_ends_ = 0;                  // 0: it has not begun
  std::vector<std::uint64_t> passed_over_;  // those to be served first in the next turn
  std::size_t most_;
  bool news_ = false;
};

}  // namespace procguard::agent
