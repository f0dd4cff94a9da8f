// SPDX-License-Identifier: Apache-2.0
// How the agent begins: the lock, the programs, what an earlier agent left, the socket.
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

#include "agent/agent.h"
#include "engine/process_facts.h"
#include "kernel/features.h"
#include "proto/codec.h"
#include "sys/caps.h"
#include "sys/namespaces.h"

namespace procguard::agent {
namespace {

Error missing_capabilities(const std::vector<std::string>& missing) {
  std::string names;
  for (const std::string& name : missing) {
    names += (names.empty() ? "" : " and ") + name;
  }
  return Error("the agent needs " + names + ": run it as root", EPERM);
}

// One agent a pin directory: the lock is on the directory itself, so it holds for whoever would
// adopt what is in it, and ends with its holder.
Result<sys::Fd> lock_directory(const std::string& dir) {
  if (::mkdir(dir.c_str(), 0700) != 0 && errno != EEXIST) {
    return Error::system("making " + dir, errno);
  }
  sys::Fd lock(::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!lock) {
    return Error::system("opening " + dir, errno);
  }
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    return errno == EWOULDBLOCK
               ? Error("another agent is running: it has the lock of " + dir, EBUSY)
               : Error::system("locking " + dir, errno);
  }
  return lock;
}

}  // namespace

Result<void> Agent::begin() {
  if (auto locked = take_lock(); !locked) {
    return locked;
  }
  // Before all that takes time: on a busy host somebody else would have the CPU for seconds, in
  // which nobody guards what an earlier agent left.
  scheduling_ = sys::request_sched_fifo();
  auto loop = sys::EventLoop::create();
  if (!loop) {
    return loop.error();
  }
  loop_ = std::move(loop).value();
  if (auto watched = watch_signals(); !watched) {
    return watched;
  }
  if (auto loaded = load_or_adopt(); !loaded) {
    return loaded;
  }
  guards_.emplace(config_, clock_, *source_, targets_, events_, log_);
  executor_.emplace(
      *source_, signaler_, engine::process_facts(), ::getpid(),
      [this](const engine::Target& target, pid_t pid) { return guards_->may_signal(target, pid); });
  controller_.emplace(*source_, *executor_, clock_, *guards_,
                      std::max<std::uint64_t>(1, source_->programs().agent().next_guard));
  guards_->use(*controller_);
  sessions_.emplace(clock_, *source_, targets_);
  requests_.emplace(*guards_, *sessions_, events_, [this] { return status(); });
  server_.emplace(
      *loop_, clock_,
      [this](Connection& connection, const proto::Message& message, std::vector<sys::Fd> fds) {
        requests_->handle(connection, message, std::move(fds));
      },
      [this](Connection& connection) {
        guards_->connection_closed(connection.id());
        sessions_->close(connection.id());
      },
      [this](Connection& connection) { requests_->pump(connection); });
  guards_->on_news([this](const proto::EventBody&) { server_->news(); });
  take_over();
  if (auto listening = server_->listen(config_.socket, config_.socket_group); !listening) {
    return listening;
  }
  loop_->on_timer([this] { on_time(); });
  failsafe_sleepers_ = kernel::can_signal_task();
  drop_privileges();
  return {};
}

Result<void> Agent::take_lock() {
  const auto capabilities = sys::read_capabilities();
  if (capabilities) {
    if (auto missing = sys::missing_for_bpf(capabilities.value()); !missing.empty()) {
      return missing_capabilities(missing);
    }
  }
  if (!sys::in_host_pid_namespace()) {
    return Error("the agent needs the host's pid namespace, and this is another one", EPERM);
  }
  auto lock = lock_directory(config_.pin_dir);
  if (!lock) {
    return lock.error();
  }
  lock_ = std::move(lock).value();
  return {};
}

Result<void> Agent::load_or_adopt() {
  const bool pinned_before = kernel::is_pinned(config_.pin_dir);
  if (!pinned_before) {
    if (auto removed = kernel::remove_pins(config_.pin_dir); !removed) {
      return removed;  // of one that died while it pinned
    }
  }
  auto programs = pinned_before ? kernel::Programs::adopt(config_.pin_dir)
                                : kernel::Programs::load({.watches = config_.max_watches,
                                                          .processes = config_.max_processes,
                                                          .threads = config_.max_threads,
                                                          .guards = config_.max_guards,
                                                          .failsafe = true});
  if (!programs) {
    return programs.error();
  }
  if (!pinned_before) {
    if (auto pinned = programs.value()->pin(config_.pin_dir); !pinned) {
      return pinned;
    }
  }
  source_ = engine::BpfSource::idle(clock_, std::move(programs).value());
  return loop_->add(source_->event_fd(), EPOLLIN, [this](std::uint32_t) {
    controller_->on_source([this](engine::WatchId watch) {
      proto::LevelBody level;
      const auto connection = sessions_->crossed(watch, level);
      Connection* whom = connection ? server_->find(*connection) : nullptr;
      if (whom != nullptr) {
        proto::Writer record(proto::Op::kLevel, 0, proto::kEnd);
        record.add(level);
        whom->send(record);
      }
    });
  });
}

// The kernel hears first that somebody is there again: from then on failsafe steps are ours.
void Agent::take_over() {
  started_ns_ = clock_.now();
  pg_agent& agent = source_->programs().agent();
  const core::Ns orphaned_since =
      __atomic_load_n(&agent.orphaned, __ATOMIC_SEQ_CST) != 0 ? agent.orphaned_since_ns : 0;
  __atomic_store_n(&agent.tgid, static_cast<__u32>(::getpid()), __ATOMIC_SEQ_CST);
  __atomic_store_n(&agent.orphaned, 0U, __ATOMIC_SEQ_CST);
  adopted_ = guards_->adopt_all();
  if (adopted_ == 0) {
    source_->detach();  // of what an earlier agent had attached
  } else if (auto attached = source_->attach(); !attached) {
    log_.note(Severity::kError, attached.error().message());
  }
  if (orphaned_since != 0 || adopted_ != 0) {
    gap_ns_ = core::saturating_sub(started_ns_, orphaned_since);
    pg_event gap{};
    gap.kind = PG_EVENT_AGENT_GAP;
    gap.at_ns = started_ns_;
    gap.due_ns = orphaned_since;
    gap.observed = adopted_;
    guards_->tell(gap);
  }
  controller_->resume_all();
}

void Agent::drop_privileges() {
  constexpr std::array<int, 3> kNeeded = {CAP_BPF, CAP_PERFMON, CAP_KILL};
  if (auto kept = sys::keep_only(kNeeded); !kept) {
    log_.note(Severity::kWarning, "privileges are not dropped: " + kept.error().message());
  }
  log_.note(Severity::kNotice, "agent " PROCGUARD_VERSION " guards " + std::to_string(adopted_) +
                                   " targets of an earlier one; socket " + config_.socket +
                                   ", pins " + config_.pin_dir + ", " + scheduling_.describe());
}

Result<void> Agent::watch_signals() {
  sigset_t mask;
  ::sigemptyset(&mask);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) {
    ::sigaddset(&mask, signal);
  }
  ::signal(SIGPIPE, SIG_IGN);
  if (::sigprocmask(SIG_BLOCK, &mask, nullptr) != 0) {
    return Error::system("blocking signals", errno);
  }
  signals_ = sys::Fd(::signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_) {
    return Error::system("signalfd", errno);
  }
  return loop_->add(signals_.get(), EPOLLIN, [this](std::uint32_t) { on_signal(); });
}

Result<void> Agent::tear_down(const Config& config) {
  auto lock = lock_directory(config.pin_dir);
  if (!lock) {
    return lock.error().code() == EBUSY ? lock.error().in("stop it before the teardown")
                                        : lock.error();
  }
  if (auto removed = kernel::remove_pins(config.pin_dir); !removed) {
    return removed;
  }
  ::rmdir(config.pin_dir.c_str());
  return {};
}

}  // namespace procguard::agent
