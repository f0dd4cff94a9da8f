// SPDX-License-Identifier: Apache-2.0
#include "agent/requests.h"

#include <algorithm>
#include <utility>

namespace procguard::agent {
namespace {

using proto::Message;
using proto::Op;
using proto::Status;
using proto::Writer;

Denial malformed(const char* what) {
  return {.status = Status::kInvalid,
          .text = std::string(what) + ": the record does not have the bodies of this request"};
}

// What goes to a client about a refusal, after the bodies before it were carried out.
void refuse(Connection& connection, const Message& message, const Denial& denial,
            std::size_t index = 0) {
  connection.send_error(message.header.request, denial, static_cast<std::uint32_t>(index));
}

}  // namespace

void Requests::handle(Connection& connection, const Message& message, std::vector<sys::Fd> fds) {
  if (message.header.version != proto::kVersion || message.header.abi != PG_ABI) {
    refuse(connection, message,
           {.status = Status::kUnsupported,
            .text = "this agent speaks version " + std::to_string(proto::kVersion) +
                    " of the protocol with ABI " + std::to_string(PG_ABI) + ", the client " +
                    std::to_string(message.header.version) + " with " +
                    std::to_string(message.header.abi)});
    return;
  }
  switch (message.op()) {
    case Op::kStatus:
      return status(connection, message);
    case Op::kAttach:
      return attach(connection, message, std::move(fds));
    case Op::kStart:
      return start(connection, message);
    case Op::kList:
      return list(connection, message);
    case Op::kShow:
      return show(connection, message);
    case Op::kSet:
      return set(connection, message);
    case Op::kPause:
      return act(connection, message, Guards::Verb::kPause);
    case Op::kResume:
      return act(connection, message, Guards::Verb::kResume);
    case Op::kRelease:
      return act(connection, message, Guards::Verb::kRelease);
    case Op::kProgress:
      return act(connection, message, Guards::Verb::kProgress);
    case Op::kEvents:
      return events(connection, message);
    case Op::kSession:
      return session(connection, message, std::move(fds));
    case Op::kThresholds:
      return thresholds(connection, message);
    default:
      refuse(connection, message,
             {.status = Status::kInvalid,
              .text = "unknown request " + std::to_string(message.header.op)});
  }
}

void Requests::status(Connection& connection, const Message& message) {
  proto::StatusBody body = status_();
  body.may = connection.asker().root() ? 1 : 0;
  Writer reply(Op::kStatus, message.header.request, proto::kEnd);
  reply.add(body);
  connection.send(reply);
}

void Requests::attach(Connection& connection, const Message& message, std::vector<sys::Fd> fds) {
  const auto bodies = message.as<proto::AttachBody>();
  if (!bodies || bodies->empty()) {
    return refuse(connection, message, malformed("attach"));
  }
  std::size_t expected = 0;
  for (const proto::AttachBody& body : *bodies) {
    expected += (body.flags & proto::kHasFd) != 0 ? 1 : 0;
  }
  if (expected != fds.size()) {
    return refuse(connection, message,
                  {.status = Status::kInvalid,
                   .text = "attach: " + std::to_string(fds.size()) + " descriptors came with it, " +
                           std::to_string(expected) + " were expected"});
  }
  Writer reply(Op::kAttach, message.header.request, proto::kEnd);
  std::size_t next_fd = 0;
  for (std::size_t i = 0; i < bodies->size(); ++i) {
    const proto::AttachBody& body = (*bodies)[i];
    sys::Fd fd = (body.flags & proto::kHasFd) != 0 ? std::move(fds[next_fd++]) : sys::Fd();
    proto::ArmedBody armed;
    if (auto denied =
            guards_.attach(connection.asker(), body, std::move(fd), connection.id(), armed)) {
      return refuse(connection, message, *denied, i);
    }
    reply.add(armed);
  }
  connection.send(reply);
}

void Requests::start(Connection& connection, const Message& message) {
  const auto bodies = message.as<proto::StartBody>();
  if (!bodies || bodies->empty()) {
    return refuse(connection, message, malformed("start"));
  }
  Writer reply(Op::kStart, message.header.request, proto::kEnd);
  for (std::size_t i = 0; i < bodies->size(); ++i) {
    if (auto denied = guards_.start(connection.asker(), (*bodies)[i])) {
      return refuse(connection, message, *denied, i);
    }
    if (const pg_guard* guard = guards_.guard((*bodies)[i].id)) {
      reply.add(proto::GuardBody{*guard});
    }
  }
  connection.send(reply);
}

void Requests::set(Connection& connection, const Message& message) {
  const auto bodies = message.as<proto::SetBody>();
  if (!bodies || bodies->empty()) {
    return refuse(connection, message, malformed("set"));
  }
  Writer reply(Op::kSet, message.header.request, proto::kEnd);
  for (std::size_t i = 0; i < bodies->size(); ++i) {
    std::uint64_t id = 0;
    if (auto denied = guards_.set(connection.asker(), (*bodies)[i], id)) {
      return refuse(connection, message, *denied, i);
    }
    if (const pg_guard* guard = guards_.guard(id)) {
      reply.add(proto::GuardBody{*guard});
    }
  }
  connection.send(reply);
}

void Requests::act(Connection& connection, const Message& message, Guards::Verb verb) {
  const auto bodies = message.as<proto::RefBody>();
  if (!bodies || bodies->empty()) {
    return refuse(connection, message, malformed("this request"));
  }
  Writer reply(message.op(), message.header.request, proto::kEnd);
  for (std::size_t i = 0; i < bodies->size(); ++i) {
    std::uint64_t id = 0;
    if (auto denied = guards_.act(connection.asker(), (*bodies)[i], verb, id)) {
      return refuse(connection, message, *denied, i);
    }
    if (const pg_guard* guard = guards_.guard(id)) {
      reply.add(proto::GuardBody{*guard});
    }
  }
  connection.send(reply);
}

void Requests::list(Connection& connection, const Message& message) {
  const auto wanted = message.one<proto::ListBody>();
  if (!wanted) {
    return refuse(connection, message, malformed("list"));
  }
  Writer reply(Op::kList, message.header.request);
  std::uint64_t after = wanted->after;
  for (;;) {
    proto::RowBody row;
    const bool more =
        (after < Sessions::kFirstId && guards_.next_row(connection.asker(), *wanted, after, row)) ||
        sessions_.next_row(connection.asker(), after, row);
    if (!more) {
      reply.flag(proto::kEnd);
      break;
    }
    if (!reply.add(row)) {
      break;  // the record is full: the client asks again from its last row
    }
    after = row.guard.id;
  }
  connection.send(reply);
}

void Requests::show(Connection& connection, const Message& message) {
  const auto which = message.one<proto::RefBody>();
  if (!which) {
    return refuse(connection, message, malformed("show"));
  }
  proto::ShowBody shown;
  std::vector<proto::ThreadBody> threads;
  if (auto denied = guards_.show(connection.asker(), *which, shown, threads)) {
    return refuse(connection, message, *denied);
  }
  Writer reply(Op::kShow, message.header.request);
  reply.add(shown);
  connection.send(reply);
  Writer rest(Op::kThreads, message.header.request, proto::kEnd);
  for (const proto::ThreadBody& thread : threads) {
    if (!rest.add(thread)) {
      break;  // some hundred are enough to look at
    }
  }
  connection.send(rest);
}

void Requests::events(Connection& connection, const Message& message) {
  const auto wanted = message.one<proto::EventsBody>();
  if (!wanted) {
    return refuse(connection, message, malformed("events"));
  }
  connection.following = Connection::Following{
      .wanted = *wanted, .seq = wanted->since_seq, .request = message.header.request};
  if (!message.has(proto::kFollow)) {
    connection.following->last_seq = events_.last_seq();
  }
  pump(connection);
}

void Requests::pump(Connection& connection) const {
  Connection::Following& at = *connection.following;
  const Asker& asker = connection.asker();
  while (!connection.waits() && !connection.broken()) {
    Writer record(Op::kEvents, at.request);
    const proto::EventBody* event = nullptr;
    while ((event = events_.next(at.wanted, at.seq)) != nullptr && event->seq <= at.last_seq) {
      const bool may = asker.root() || event->owner_uid == asker.uid;
      if (may && !record.add(*event)) {
        break;
      }
      at.seq = event->seq;
    }
    const bool all = event == nullptr || event->seq > at.last_seq;
    if (event == nullptr) {
      at.seq = std::max(at.seq, events_.last_seq());  // not to be looked through again
    }
    const bool asked_for_the_past = at.last_seq != UINT64_MAX;
    if (all && asked_for_the_past) {
      record.flag(proto::kEnd);
    }
    if (record.count() > 0 || (all && asked_for_the_past) || !std::exchange(at.begun, true)) {
      connection.send(record);
    }
    if (all) {
      if (asked_for_the_past) {
        connection.following.reset();
      }
      return;
    }
  }
}

void Requests::session(Connection& connection, const Message& message, std::vector<sys::Fd> fds) {
  if (!message.one<proto::SessionBody>() || fds.size() != 1) {
    return refuse(connection, message, malformed("session"));
  }
  proto::SessionReply body;
  if (auto denied = sessions_.open(connection, std::move(fds[0]), body)) {
    return refuse(connection, message, *denied);
  }
  Writer reply(Op::kSession, message.header.request, proto::kEnd);
  reply.add(body);
  connection.send(reply);
}

void Requests::thresholds(Connection& connection, const Message& message) {
  const auto wanted = message.one<proto::ThresholdsBody>();
  if (!wanted) {
    return refuse(connection, message, malformed("thresholds"));
  }
  proto::LevelBody level;
  if (auto denied = sessions_.set(connection, *wanted, level)) {
    return refuse(connection, message, *denied);
  }
  Writer reply(Op::kLevel, message.header.request, proto::kEnd);
  reply.add(level);
  connection.send(reply);
}

}  // namespace procguard::agent
