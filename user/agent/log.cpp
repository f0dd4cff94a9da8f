// SPDX-License-Identifier: Apache-2.0
#include "agent/log.h"

#include <poll.h>
#include <pthread.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <deque>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <variant>

#include "agent/log_text.h"
#include "agent/token_bucket.h"
#include "proto/event_json.h"
#include "sys/caps.h"
#include "sys/fd.h"
#include "sys/pidfd.h"
#include "sys/systemd.h"

namespace procguard::agent {
namespace {

using Clock = std::chrono::steady_clock;
using Entry = std::variant<proto::EventBody, Note>;

// Losses are gathered for this long and then said in one line.
constexpr std::chrono::seconds kGather{1};
constexpr std::chrono::milliseconds kTogether{2};
constexpr std::chrono::seconds kPatience{1};

std::uint64_t real_now_ns() {
  const auto since = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(since).count());
}

// Where lines go. May block.
class Output {
 public:
  Output(LogFormat format, sys::Fd fd) : format_(format), fd_(std::move(fd)) {}

  // False: it is lost.
  bool write(const Entry& entry) const {
    return std::visit([this](const auto& what) { return put(what); }, entry);
  }

 private:
  template <typename What>
  bool put(const What& what) const {
    switch (format_) {
      case LogFormat::kJournal:
        return sys::journal_send(journal_fields(what)).ok();
      case LogFormat::kJson:
        return write_all(json(what));
      case LogFormat::kText:
        break;
    }
    return write_all(text_line(what) + "\n");
  }
  static std::string json(const Note& note) { return json_line(note) + "\n"; }
  static std::string json(const proto::EventBody& event) {
    std::string lines;
    for (const std::string& object : proto::event_json(event)) {
      lines += object + "\n";
    }
    return lines;
  }
  bool write_all(std::string_view text) const;

  LogFormat format_;
  sys::Fd fd_;
};

bool Output::write_all(std::string_view text) const {
  while (!text.empty()) {
    const ssize_t written = ::write(fd_.get(), text.data(), text.size());
    if (written >= 0) {
      text.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno == EAGAIN) {
      pollfd entry{.fd = fd_.get(), .events = POLLOUT, .revents = 0};
      (void)::poll(&entry, 1, -1);
    } else if (errno != EINTR) {
      return false;
    }
  }
  return true;
}

// The loop has real-time priority, the writer has none: where it loses its CPU with the mutex in
// its hands, the loop lends it its own.
void inherit_priority(std::mutex& mutex) {
  pthread_mutexattr_t attributes;
  ::pthread_mutexattr_init(&attributes);
  ::pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
  ::pthread_mutex_init(mutex.native_handle(), &attributes);
  ::pthread_mutexattr_destroy(&attributes);
}

// Shared by those who log and the one who writes, which may be stuck in a write for longer than the
// Log lives.
class Queue {
 public:
  Queue(const Log::Options& options, sys::Fd fd)
      : most_(options.queue),
        bucket_(options.lines_per_second, options.burst),
        output_(options.format, std::move(fd)) {
    inherit_priority(mutex_);
  }

  void put(const proto::EventBody& event) {
    const std::lock_guard lock(mutex_);
    const auto now = Clock::now().time_since_epoch();
    const auto now_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
    if (bucket_.take(static_cast<core::Ns>(now_ns))) {
      push(event);
    } else {
      drop();
    }
  }
  void put(Note note) {
    const std::lock_guard lock(mutex_);
    push(std::move(note));
  }
  std::uint64_t lost() const {
    const std::lock_guard lock(mutex_);
    return lost_;
  }

  // The writing thread.
  void run();
  // Lets it write what waits; returns when it has, or has had its time.
  void finish();

 private:
  void push(Entry entry) {
    if (entries_.size() >= most_) {
      return drop();
    }
    entries_.push_back(std::move(entry));
    wake();
  }
  // One wake-up for all that comes until it looks.
  void wake() {
    if (std::exchange(idle_, false)) {
      changed_.notify_one();
    }
  }
  void drop() {
    lost_++;
    if (unsaid_++ == 0) {
      say_at_ = Clock::now() + kGather;
      wake();
    }
  }
  // Waits for the next thing to write; nothing: that was all.
  std::optional<Entry> next();
  Note losses();

  const std::size_t most_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::condition_variable finished_;
  std::deque<Entry> entries_;
  TokenBucket bucket_;
  std::uint64_t lost_ = 0;
  std::uint64_t unsaid_ = 0;  // of these, how many no line has told of yet
  Clock::time_point say_at_;
  bool idle_ = false;  // the writer waits to be woken
  bool stopping_ = false;
  bool done_ = false;
  const Output output_;  // the writing thread's alone
};

Note Queue::losses() {
  const std::string count = std::to_string(std::exchange(unsaid_, 0));
  return {.severity = Severity::kWarning,
          .real_ns = real_now_ns(),
          .text = "log: " + count + " lines lost: more than could be written"};
}

std::optional<Entry> Queue::next() {
  std::unique_lock lock(mutex_);
  for (;;) {
    const bool at_end = stopping_ && entries_.empty();
    if (unsaid_ != 0 && (at_end || Clock::now() >= say_at_)) {
      return losses();
    }
    if (at_end) {
      return std::nullopt;
    }
    if (!entries_.empty()) {
      Entry entry = std::move(entries_.front());
      entries_.pop_front();
      return entry;
    }
    idle_ = true;
    if (unsaid_ != 0) {
      changed_.wait_until(lock, say_at_);
    } else {
      changed_.wait(lock);
      // What comes with it is written with it: each wake-up costs the one who logs.
      if (!stopping_) {
        lock.unlock();
        std::this_thread::sleep_for(kTogether);
        lock.lock();
      }
    }
  }
}

void Queue::run() {
  // Signals are for the agent's own thread; a reader that is gone is an error, not a SIGPIPE.
  sigset_t all;
  ::sigfillset(&all);
  (void)::pthread_sigmask(SIG_SETMASK, &all, nullptr);
  // Capabilities are a thread's own: this one writes, and needs none. Without the right to give
  // them up it has none worth it.
  (void)sys::keep_only({});
  while (const auto entry = next()) {
    if (!output_.write(*entry)) {
      const std::lock_guard lock(mutex_);
      lost_++;  // saying so would fail, too
    }
  }
  const std::lock_guard lock(mutex_);
  done_ = true;
  finished_.notify_all();
}

void Queue::finish() {
  std::unique_lock lock(mutex_);
  stopping_ = true;
  changed_.notify_one();
  if (!finished_.wait_for(lock, kPatience, [this] { return done_; })) {
    entries_.clear();
    unsaid_ = 0;
  }
}

class QueuedLog final : public Log {
 public:
  explicit QueuedLog(std::shared_ptr<Queue> queue) : queue_(std::move(queue)) {}
  QueuedLog(const QueuedLog&) = delete;
  QueuedLog& operator=(const QueuedLog&) = delete;
  ~QueuedLog() override { queue_->finish(); }

  void event(const proto::EventBody& event) override { queue_->put(event); }
  void note(Severity severity, const std::string& text) override {
    queue_->put(Note{.severity = severity, .real_ns = real_now_ns(), .text = text});
  }
  std::uint64_t lost() const override { return queue_->lost(); }

 private:
  std::shared_ptr<Queue> queue_;
};

}  // namespace

Result<std::unique_ptr<Log>> Log::open(const Options& options) {
  sys::Fd fd;
  if (options.format == LogFormat::kJournal) {
    if (auto available = sys::journal_available(); !available) {
      return available.error();
    }
  } else {
    auto copy = sys::duplicate_fd(options.fd);
    if (!copy) {
      return copy.error().in("opening the log");
    }
    fd = std::move(copy).value();
  }
  auto queue = std::make_shared<Queue>(options, std::move(fd));
  try {
    // Never joined: it may hang in a write.
    std::thread([queue] { queue->run(); }).detach();
  } catch (const std::system_error& error) {
    return Error::system("starting the log's thread", error.code().value());
  }
  return std::unique_ptr<Log>(std::make_unique<QueuedLog>(queue));
}

}  // namespace procguard::agent
