// SPDX-License-Identifier: Apache-2.0
#include "agent/sessions.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "sys/pidfd.h"

namespace procguard::agent {
namespace {

using proto::Status;

Denial invalid(const std::string& text) {
  return {.status = Status::kInvalid, .text = text};
}

Denial not_seen() {
  return {.status = Status::kNotPermitted,
          .text = "the program at the other end is not to be seen from here"};
}

// Word by word, each read before the next and all before whatever is read after it.
void copy_words(const proto::PageSlot& shared, proto::PageSlot& slot) {
  using Word __attribute__((may_alias)) = std::uint64_t;
  static_assert(sizeof(slot) % sizeof(Word) == 0);
  const auto* from = reinterpret_cast<const Word*>(&shared);
  auto* to = reinterpret_cast<Word*>(&slot);
  for (std::size_t i = 0; i < sizeof(slot) / sizeof(Word); ++i) {
    to[i] = __atomic_load_n(&from[i], __ATOMIC_ACQUIRE);
  }
}

// A read-only view of a program's page.
class PageView {
 public:
  PageView() = default;
  PageView(const PageView&) = delete;
  PageView& operator=(const PageView&) = delete;
  ~PageView() {
    if (page_ != nullptr) {
      ::munmap(page_, sizeof(proto::Page));
    }
  }

  // Sealed against shrinking: else reading it could end us. Against growing: freeing what it has
  // grown to would take its time at the session's end.
  std::optional<Denial> map(int fd) {
    struct stat about {};
    const int seals = fd < 0 ? -1 : ::fcntl(fd, F_GET_SEALS);
    constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW;
    if (seals < 0 || (seals & kSeals) != kSeals || ::fstat(fd, &about) != 0 ||
        static_cast<std::size_t>(about.st_size) != sizeof(proto::Page)) {
      return invalid("a session's descriptor: expected a memfd of " +
                     std::to_string(sizeof(proto::Page)) +
                     " bytes, sealed against shrinking and growing");
    }
    void* data = ::mmap(nullptr, sizeof(proto::Page), PROT_READ, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED) {
      return Denial{.status = Status::kBusy,
                    .text = std::string("mapping a session's page: ") + std::strerror(errno)};
    }
    page_ = data;
    return std::nullopt;
  }
  const proto::Page& page() const { return *static_cast<const proto::Page*>(page_); }

 private:
  void* page_ = nullptr;
};

}  // namespace

struct Sessions::Session {
  std::uint64_t connection = 0;
  pid_t pid = 0;
  uid_t uid = 0;
  PageView page;
  engine::Target target;
  engine::WatchId watch = 0;
};

Sessions::Sessions(const core::Clock& clock, engine::BpfSource& source, const Targets& targets)
    : clock_(clock), source_(source), targets_(targets) {}

Sessions::~Sessions() = default;

std::optional<Denial> Sessions::open(const Connection& connection, sys::Fd page,
                                     proto::SessionReply& reply) {
  if (sessions_.contains(connection.id())) {
    return invalid("this connection has a session");
  }
  const pid_t pid = connection.peer().pid;
  auto pidfd = connection.socket().peer_pidfd();
  if (!pidfd && pidfd.error().code() == ENOPROTOOPT) {
    pidfd = sys::open_pidfd(pid);  // it may be another's by now: its uids are looked at
  }
  if (pid <= 0 || !pidfd) {
    return not_seen();
  }
  if (auto denied = check_process(connection, pidfd.value())) {
    return denied;
  }
  auto session = std::make_unique<Session>();
  if (auto denied = session->page.map(page.get())) {
    return denied;
  }
  session->connection = connection.id();
  session->pid = pid;
  session->uid = connection.asker().uid;
  session->target.scope = PG_SCOPE_PROCESS;
  session->target.pid = pid;
  session->target.owner_uid = session->uid;
  if (auto attached = source_.attach(); !attached) {
    return Denial{.status = Status::kUnsupported, .text = attached.error().message()};
  }
  auto watch = source_.watch(session->target);
  if (!watch) {
    return Denial{.status = watch.error().code() == ENOSPC ? Status::kBusy : Status::kUnsupported,
                  .text = watch.error().message()};
  }
  session->watch = watch.value();
  // Not another's that has its pid now: not while the pidfd says that it lives.
  const auto ended = sys::has_exited(pidfd.value().get());
  if (!ended || ended.value()) {
    source_.release(session->watch);
    return Denial{.status = Status::kNotFound, .text = "the program has ended"};
  }
  by_watch_[session->watch] = connection.id();
  reply = {.id = connection.id(), .pid = static_cast<std::uint32_t>(pid), .padding = 0};
  sessions_[connection.id()] = std::move(session);
  return std::nullopt;
}

// Whose memory is watched is the asker's own, and each process takes one of its places for it.
std::optional<Denial> Sessions::check_process(const Connection& connection, const sys::Fd& pidfd) {
  const pid_t pid = connection.peer().pid;
  const Asker& asker = connection.asker();
  const auto now = targets_.status(pid);
  const auto ended = sys::has_exited(pidfd.get());  // after it was read: it was this one's
  if (!now || !ended || ended.value()) {
    return not_seen();
  }
  if (!asker.root() && (now->real_uid != asker.uid || now->saved_uid != asker.uid)) {
    return Denial{.status = Status::kNotPermitted,
                  .text = "pid " + std::to_string(pid) + " of real uid " +
                          std::to_string(now->real_uid) + ", saved uid " +
                          std::to_string(now->saved_uid) + " has no session of uid " +
                          std::to_string(asker.uid) + " (permitted: both the asker's)"};
  }
  for (const auto& [id, session] : sessions_) {
    if (session->pid == pid && lives(*session)) {
      return Denial{.status = Status::kBusy,
                    .text = "pid " + std::to_string(pid) + " has a session on another connection"};
    }
  }
  return std::nullopt;
}

bool Sessions::lives(const Session& session) {
  const auto levels = source_.levels(session.watch);
  return levels && !levels->empty;
}

std::optional<Denial> Sessions::set(const Connection& connection,
                                    const proto::ThresholdsBody& wanted, proto::LevelBody& level) {
  auto found = sessions_.find(connection.id());
  if (found == sessions_.end()) {
    return invalid("no session on this connection");
  }
  engine::Thresholds thresholds;
  for (int i = 0; i < 2; ++i) {
    thresholds.memory[i].bytes =
        std::min<std::uint64_t>(wanted.bytes[i], static_cast<std::uint64_t>(INT64_MAX));
  }
  if (auto set = source_.set_thresholds(found->second->watch, thresholds); !set) {
    return Denial{.status = Status::kUnsupported, .text = set.error().message()};
  }
  level = level_of(*found->second);
  return std::nullopt;
}

void Sessions::close(std::uint64_t connection) {
  auto found = sessions_.find(connection);
  if (found == sessions_.end()) {
    return;
  }
  by_watch_.erase(found->second->watch);
  source_.release(found->second->watch);
  sessions_.erase(found);
}

std::optional<std::uint64_t> Sessions::crossed(engine::WatchId watch, proto::LevelBody& level) {
  auto found = by_watch_.find(watch);
  if (found == by_watch_.end()) {
    return std::nullopt;
  }
  level = level_of(*sessions_.at(found->second));
  return found->second;
}

proto::LevelBody Sessions::level_of(const Session& session) {
  proto::LevelBody body;
  if (auto levels = source_.levels(session.watch)) {
    body.memory_bytes = levels->memory_bytes;
    for (int i = 0; i < 2; ++i) {
      body.over_since_ns[i] = levels->memory[i].over_since_ns;
      body.set_over_since_ns[i] = levels->memory[i].set_over_since_ns;
      body.episodes[i] = levels->memory[i].episodes;
    }
  }
  return body;
}

// A copy that nobody wrote to meanwhile; false: it is free, or was never still.
bool Sessions::read_slot(const proto::Page& page, std::uint32_t index, proto::PageSlot& slot) {
  const auto& shared = page.slot[index];
  for (int look = 0; look < 8; ++look) {
    const std::uint32_t before = __atomic_load_n(&shared.version, __ATOMIC_ACQUIRE);
    copy_words(shared, slot);
    const std::uint32_t after = __atomic_load_n(&shared.version, __ATOMIC_RELAXED);
    if (before == after && (before & 1U) == 0) {
      return slot.state == proto::kSlotEntered && slot.resource < PG_RESOURCES;
    }
  }
  return false;
}

bool Sessions::next_row(const Asker& asker, std::uint64_t after, proto::RowBody& row) const {
  const std::uint64_t place = after < kFirstId ? 0 : after - kFirstId + 1;
  for (auto at = sessions_.lower_bound(place / proto::kPageSlots); at != sessions_.end(); ++at) {
    const Session& session = *at->second;
    if (!asker.root() && asker.uid != session.uid) {
      continue;
    }
    const bool here = at->first == place / proto::kPageSlots;
    std::uint32_t index = here ? static_cast<std::uint32_t>(place % proto::kPageSlots) : 0;
    const proto::Page& page = session.page.page();
    const std::uint32_t used =
        std::min(__atomic_load_n(&page.header.used, __ATOMIC_RELAXED), proto::kPageSlots);
    for (; index < used; ++index) {
      proto::PageSlot slot;
      if (!read_slot(page, index, slot)) {
        continue;
      }
      pg_guard& guard = row.guard;
      guard.id = kFirstId + at->first * proto::kPageSlots + index;
      guard.pid = static_cast<std::uint32_t>(session.pid);
      guard.tid = slot.tid;
      guard.scope = PG_SCOPE_THREAD;
      guard.owner_uid = session.uid;
      guard.phase = PG_GUARD_ARMED;
      guard.origin = PG_ORIGIN_SESSION;
      guard.steps = std::min<std::uint32_t>(slot.steps, PG_STEPS);
      pg_limit& limit = guard.limit[slot.resource];
      limit.limit = slot.limit;
      limit.base = slot.base;
      limit.grace_ns = slot.grace_ns;
      limit.next_step = std::min<std::uint32_t>(slot.next_step, PG_STEPS);
      limit.phase = limit.next_step == 0 ? PG_LIMIT_WAITING : PG_LIMIT_TRIPPED;
      limit.due_ns = slot.resource == PG_TIMEOUT ? core::saturating_add(slot.base, slot.limit) : 0;
      row.now_ns = clock_.now();
      row.session_pid = static_cast<std::uint32_t>(session.pid);
      row.processes = 1;
      if (auto levels = source_.levels(session.watch)) {
        row.memory_bytes = levels->memory_bytes;
        row.memory_peak_bytes = levels->memory_peak_bytes;
      }
      if (auto process = source_.programs().process(guard.pid)) {
        proto::put_text(row.comm, proto::get_text(process->comm));
      }
      return true;
    }
  }
  return false;
}

}  // namespace procguard::agent
