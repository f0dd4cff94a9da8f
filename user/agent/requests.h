// SPDX-License-Identifier: Apache-2.0
// Requests: from records to what they ask for, and back. Checks form (kind, size, number of
// bodies); what is asked for is guards' and sessions' business. One thread.
#pragma once

#include <functional>
#include <vector>

#include "agent/connection.h"
#include "agent/guards.h"
#include "agent/sessions.h"

namespace procguard::agent {

class Requests {
 public:
  Requests(Guards& guards, Sessions& sessions, const EventLog& events,
           std::function<proto::StatusBody()> status)
      : guards_(guards), sessions_(sessions), events_(events), status_(std::move(status)) {}

  void handle(Connection& connection, const proto::Message& message, std::vector<sys::Fd> fds);
  // Sends what a following connection has not had yet, as far as it reads.
  void pump(Connection& connection) const;

 private:
  void attach(Connection& connection, const proto::Message& message, std::vector<sys::Fd> fds);
  void start(Connection& connection, const proto::Message& message);
  void set(Connection& connection, const proto::Message& message);
  void act(Connection& connection, const proto::Message& message, Guards::Verb verb);
  void list(Connection& connection, const proto::Message& message);
  void show(Connection& connection, const proto::Message& message);
  void events(Connection& connection, const proto::Message& message);
  void session(Connection& connection, const proto::Message& message, std::vector<sys::Fd> fds);
  void thresholds(Connection& connection, const proto::Message& message);
  void status(Connection& connection, const proto::Message& message);

  Guards& guards_;
  Sessions& sessions_;
  const EventLog& events_;
  std::function<proto::StatusBody()> status_;
};

}  // namespace procguard::agent
