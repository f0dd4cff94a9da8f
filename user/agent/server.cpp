// SPDX-License-Identifier: Apache-2.0
#include "agent/server.h"

#include <grp.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "sys/caps.h"
#include "sys/procfs.h"

namespace procguard::agent {
namespace {

constexpr int kRecordsATurn = 16;
// Of the loop's for all clients together: after it guards come first.
constexpr core::Ns kTurn = 2 * core::kMillisecond;
constexpr int kConnectsATurn = 16;
constexpr std::size_t kMostConnections = 1024;
constexpr std::size_t kMostOfAUid = 64;  // not root's

// No user but root takes more of the loop's time than this.
constexpr core::Ns kWindow = core::kSecond;
constexpr core::Ns kMostOfAWindow = kWindow / 2;
constexpr std::size_t kManyShares = 1024;

std::size_t most_connections() {
  const std::uint64_t files = sys::read_resource_limits().open_files.soft;
  return std::min<std::uint64_t>(kMostConnections, files / 4);
}

// The namespaces a process is in, as our /proc has it: one, if it is in ours.
bool numbers_are_ours(pid_t pid) {
  const auto status = sys::ProcRoot().status(pid);
  return pid > 0 && status && status->ns_pids.size() == 1;
}

Result<void> make_parents(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos || slash == 0) {
    return {};
  }
  const std::string directory = path.substr(0, slash);
  if (::mkdir(directory.c_str(), 0755) != 0 && errno != EEXIST) {
    return Error::system("making " + directory, errno);
  }
  return {};
}

}  // namespace

Server::Server(sys::EventLoop& loop, const core::Clock& clock, Handler handler, Closed closed,
               Pump pump)
    : loop_(loop),
      clock_(clock),
      handler_(std::move(handler)),
      closed_(std::move(closed)),
      pump_(std::move(pump)),
      buffer_(proto::kMaxRecord),
      most_(most_connections()) {}

Result<void> Server::listen(const std::string& path, const std::string& group) {
  if (auto made = make_parents(path); !made) {
    return made;
  }
  auto socket = sys::SeqPacket::listen(path);
  if (!socket) {
    return socket.error();
  }
  socket_.emplace(std::move(socket).value());
  path_ = path;
  const struct group* entry = group.empty() ? nullptr : ::getgrnam(group.c_str());
  if (entry != nullptr &&
      (::chown(path.c_str(), 0, entry->gr_gid) != 0 || ::chmod(path.c_str(), 0660) != 0)) {
    return Error::system("giving " + path + " to group " + group, errno);
  }
  return loop_.add(socket_->fd(), EPOLLIN, [this](std::uint32_t) { on_connect(); });
}

void Server::on_connect() {
  for (int i = 0; i < kConnectsATurn; ++i) {
    auto accepted = socket_->accept();
    if (!accepted || !accepted.value()) {
      return;  // of an error too: the next connection brings us back
    }
    admit(std::move(*accepted.value()));
  }
}

void Server::admit(sys::SeqPacket socket) {
  const auto peer = socket.peer();
  if (!peer) {
    descriptors_.close(std::move(socket).release(), 0);
    return;
  }
  const uid_t uid = peer->uid;
  const Asker asker{.uid = uid, .same_pid_namespace = numbers_are_ours(peer->pid)};
  const std::uint64_t id = next_id_++;
  auto connection = std::make_unique<Connection>(id, std::move(socket), peer.value(), asker);
  const auto open = per_uid_.find(uid);
  const bool many = !asker.root() && open != per_uid_.end() && open->second >= kMostOfAUid;
  if (connections_.size() >= most_ || many || descriptors_.too_many(uid)) {
    connection->send_error(0, {.status = proto::Status::kBusy, .text = "too many connections"});
    return discard(*connection);
  }
  if (!loop_.add(connection->fd(), EPOLLIN,
                 [this, id](std::uint32_t events) { on_ready(id, events); })) {
    return discard(*connection);
  }
  per_uid_[uid]++;
  watched_[id] = EPOLLIN;
  connections_[id] = std::move(connection);
}

// What it has sent and nobody has read may have descriptors with it.
void Server::discard(Connection& connection) {
  if (!connection.ended()) {
    descriptors_.close(connection.take_socket(), connection.asker().uid);
  }
}

Connection* Server::find(std::uint64_t id) {
  auto found = connections_.find(id);
  return found == connections_.end() ? nullptr : found->second.get();
}

// kNever: it has time left.
core::Ns Server::out_of_time_until(uid_t uid) {
  const core::Ns now = clock_.now();
  if (shares_.size() > kManyShares) {
    std::erase_if(shares_, [now](const auto& each) { return each.second.since + kWindow <= now; });
  }
  Share& share = shares_[uid];
  if (share.since + kWindow <= now) {
    share = {.since = now, .used = 0};
  }
  return share.used < kMostOfAWindow ? core::kNever : share.since + kWindow;
}

bool Server::turn_is_over() {
  const core::Ns now = clock_.now();
  turn_ends_ = turn_ends_ == 0 ? now + kTurn : turn_ends_;
  return now >= turn_ends_;
}

// Who finds no time left is told of again, and comes before the others then.
void Server::on_ready(std::uint64_t id, std::uint32_t events) {
  if (turn_ends_ == 0) {
    for (const std::uint64_t first : std::exchange(passed_over_, {})) {
      turn_is_over() ? passed_over_.push_back(first) : serve(first, 0);
    }
  }
  if (!turn_is_over()) {
    serve(id, events);
  } else if (std::find(passed_over_.begin(), passed_over_.end(), id) == passed_over_.end()) {
    passed_over_.push_back(id);
  }
}

void Server::serve(std::uint64_t id, std::uint32_t events) {
  Connection* connection = find(id);
  if (connection == nullptr || connection->broken()) {
    return;
  }
  connection->flush();
  // Who has hung up is told of for as long as we do not read: a pause is no reason to keep him.
  const bool paused = connection->paused_until() != core::kNever;
  if ((events & EPOLLERR) != 0 || ((events & EPOLLHUP) != 0 && paused)) {
    connection->close();
  }
  const bool root = connection->asker().root();
  const core::Ns begin = clock_.now();
  if (!root && connection->paused_until() == core::kNever) {
    connection->pause(out_of_time_until(connection->asker().uid));
  }
  for (int i = 0; i < kRecordsATurn && !connection->broken() && !connection->waits() &&
                  connection->paused_until() == core::kNever && !turn_is_over();
       ++i) {
    if (!read_one(*connection)) {
      break;
    }
  }
  if (connection->following && !connection->waits() && !connection->broken()) {
    pump_(*connection);
  }
  if (!root) {
    shares_[connection->asker().uid].used += clock_.now() - begin;
  }
  watch(*connection);
}

// False: there is nothing more to read now.
bool Server::read_one(Connection& connection) {
  const uid_t uid = connection.asker().uid;
  if (descriptors_.too_many(uid)) {
    connection.send_error(0, {.status = proto::Status::kBusy,
                              .text = "too many descriptors of this user cannot be closed"});
    connection.close();
    return false;
  }
  auto received = connection.socket().receive(buffer_, proto::kMaxFds);
  if (!received) {
    if (received.error().code() != EAGAIN && received.error().code() != EWOULDBLOCK) {
      connection.close();
    }
    return false;
  }
  if (received->closed) {
    connection.end();
    return false;
  }
  descriptors_.screen(received->fds, uid);
  if (!connection.may_ask(clock_.now())) {
    connection.send_error(0, {.status = proto::Status::kBusy,
                              .text = "too many requests a second: this one was dropped"});
    return false;
  }
  const auto message = proto::decode(std::span(buffer_).first(received->bytes));
  if (!message || received->truncated) {
    connection.send_error(0, {.status = proto::Status::kInvalid,
                              .text = "not a record of this protocol (see protocol.md)"});
    connection.flush();
    connection.close();
    return false;
  }
  handler_(connection, *message, std::move(received->fds));
  return true;
}

// Waits for what matters now: room for replies, or requests.
void Server::watch(Connection& connection) {
  std::uint32_t wanted = connection.paused_until() == core::kNever ? std::uint32_t{EPOLLIN} : 0U;
  if (connection.waits()) {
    wanted = EPOLLOUT;
  }
  std::uint32_t& watched = watched_[connection.id()];
  if (wanted != watched && loop_.change(connection.fd(), wanted)) {
    watched = wanted;
  }
}

void Server::tidy() {
  const core::Ns now = clock_.now();
  turn_ends_ = 0;
  const bool news = std::exchange(news_, false);
  for (auto at = connections_.begin(); at != connections_.end();) {
    Connection& connection = *at->second;
    if (connection.paused_until() <= now) {
      connection.unpause();
      watch(connection);
    }
    if (news && connection.following && !connection.waits() && !connection.broken()) {
      pump_(connection);
    }
    if (connection.waits() && !connection.broken()) {
      watch(connection);  // what was sent to it in this turn, whoever did
    }
    if (!connection.broken()) {
      ++at;
      continue;
    }
    closed_(connection);
    loop_.remove(connection.fd());
    discard(connection);
    if (auto count = per_uid_.find(connection.asker().uid);
        count != per_uid_.end() && --count->second == 0) {
      per_uid_.erase(count);
    }
    watched_.erase(connection.id());
    at = connections_.erase(at);
  }
}

core::Ns Server::next_due() const {
  core::Ns first = core::kNever;
  for (const auto& [id, connection] : connections_) {
    first = std::min(first, connection->paused_until());
  }
  return first;
}

void Server::stop() {
  if (socket_) {
    loop_.remove(socket_->fd());
    ::unlink(path_.c_str());
    socket_.reset();
  }
  for (const auto& [id, connection] : connections_) {
    discard(*connection);
  }
  connections_.clear();
}

}  // namespace procguard::agent
