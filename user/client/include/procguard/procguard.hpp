// SPDX-License-Identifier: Apache-2.0
//
// procguard for C++20: guards for blocks of code. Header-only over the C ABI of procguard.h; link
// with libprocguard (pkg-config procguard, or find_package(procguard)).
//
//   auto guard = procguard::time_guard({.timeout = 10s});
//   {
//     auto block = guard.enter();
//     for (const auto& record : records) {
//       parse(record);
//       block.progress();              // the 10 s begin anew
//     }
//   }
//   auto guarded = procguard::time_guard({.timeout = 10s})(parse);   // or as a decorator
//   guarded(document);
//
// When a limit is broken the ladder begins: by default an exception, then SIGINT, then SIGTERM to
// the guarded thread. Exceptions are thrown by progress(), checkpoint() and the interruptible
// waits, and nothing else: a loop that should be interruptible calls one of them. An exception step
// also breaks a blocking system call of the thread (EINTR).
//
// Durations are std::chrono, sizes `Bytes` (64_MiB). Guards may be used by many threads at once and
// again and again; a Block belongs to the thread that entered it, but may be destroyed by any.
#pragma once

#include <procguard/procguard.h>
#include <pthread.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

namespace procguard {

// A size in bytes.
struct Bytes {
  std::uint64_t count = 0;
  friend constexpr auto operator<=>(Bytes, Bytes) = default;
};
inline namespace literals {
constexpr Bytes operator""_KiB(unsigned long long n) {
  return {n << 10U};
}
constexpr Bytes operator""_MiB(unsigned long long n) {
  return {n << 20U};
}
constexpr Bytes operator""_GiB(unsigned long long n) {
  return {n << 30U};
}
}  // namespace literals

enum class InterruptType {
  exception = PROCGUARD_EXCEPTION,
  signal = PROCGUARD_SIGNAL,
  exception_then_signal = PROCGUARD_EXCEPTION_THEN_SIGNAL,
};

enum class Resource {
  timeout = PROCGUARD_TIMEOUT,
  memory = PROCGUARD_MEMORY,
  memory_growth = PROCGUARD_MEMORY_GROWTH,
};

// One step of a guard's ladder. Sizes in bytes; a timeout's limit and observed in ns.
struct Trip {
  std::uint64_t guard = 0;
  Resource resource = Resource::timeout;
  unsigned step = 0;
  int signal = 0;  // 0: an exception
  bool last = false;
  bool withdrawn = false;  // an exception that was not thrown before its block was left
  std::uint64_t limit = 0;
  std::uint64_t observed = 0;
  std::chrono::nanoseconds elapsed{};  // since the block was entered

  explicit Trip(const procguard_trip& trip)
      : guard(trip.guard),
        resource(static_cast<Resource>(trip.resource)),
        step(trip.step),
        signal(static_cast<int>(trip.signal)),
        last(trip.last != 0),
        withdrawn(trip.withdrawn != 0),
        limit(trip.limit),
        observed(trip.observed),
        elapsed(static_cast<std::int64_t>(trip.elapsed_ns)) {}
};

// The base of what guards throw. Not a std::exception: code under guard that catches those must not
// swallow it.
class PROCGUARD_API GuardException {
 public:
  explicit GuardException(const Trip& trip) : trip_(trip) {}
  GuardException(const GuardException&) = default;
  GuardException& operator=(const GuardException&) = default;
  virtual ~GuardException() = default;

  virtual const char* what() const noexcept = 0;
  const Trip& trip() const noexcept { return trip_; }
  std::uint64_t guard() const noexcept { return trip_.guard; }  // see Guard::id()

 private:
  Trip trip_;
};

class PROCGUARD_API ExecutionTimeout final : public GuardException {
 public:
  using GuardException::GuardException;
  const char* what() const noexcept override { return "execution timeout"; }
};

class PROCGUARD_API MemoryLimitExceeded final : public GuardException {
 public:
  using GuardException::GuardException;
  const char* what() const noexcept override { return "memory limit exceeded"; }
};

namespace detail {

[[noreturn]] inline void raise(const procguard_trip& trip) {
  if (trip.resource == PROCGUARD_TIMEOUT) {
    throw ExecutionTimeout(Trip(trip));
  }
  throw MemoryLimitExceeded(Trip(trip));
}

inline void raise_pending() {
  procguard_trip trip;
  if (procguard_take(&trip) == 1) {
    raise(trip);
  }
}

// The stop sources of blocks that were asked for one, and of waits. The library calls back on a
// thread of its own, which knows a block by its handle only: the block may be gone.
class Stops {
 public:
  static Stops& instance() {
    static auto* const stops = new Stops;  // outlives the thread that calls back
    return *stops;
  }
  std::stop_token token(procguard_entry entry) {
    std::stop_source source;
    const bool pending = procguard_is_pending(entry) == 1;
    {
      const std::lock_guard lock(mutex_);
      auto& known = sources_.try_emplace(key(entry), source).first->second;
      if (known.stop_requested() && !pending) {
        known = source;  // that stop was taken up
      }
      source = known;
    }
    // Asked again: the step may have been told just before the source was there.
    if (procguard_is_pending(entry) == 1) {
      source.request_stop();
    }
    return source.get_token();
  }
  void forget(procguard_entry entry) {
    const std::lock_guard lock(mutex_);
    sources_.erase(key(entry));
  }
  // A wait of any thread: each step ends it, and who waits looks whether the step was for him.
  // Steps are rare, and a thread's guards are many.
  void add_wait(const std::stop_source& source) {
    const std::lock_guard lock(mutex_);
    waits_.push_back(source);
  }
  void remove_wait(const std::stop_source& source) {
    const std::lock_guard lock(mutex_);
    std::erase(waits_, source);
  }
  void request(procguard_entry entry) {
    std::vector<std::stop_source> sources;
    {
      const std::lock_guard lock(mutex_);
      sources = waits_;
      if (const auto found = sources_.find(key(entry)); found != sources_.end()) {
        sources.push_back(found->second);
      }
    }
    for (auto& source : sources) {
      source.request_stop();  // runs callbacks: not under the lock
    }
  }

 private:
  using Key = std::pair<void*, std::uint64_t>;
  static Key key(procguard_entry entry) { return {entry.slot, entry.generation}; }

  // A fork's child has none of the waiting threads, and nobody who would unlock the mutex.
  Stops() {
    pthread_atfork([] { instance().mutex_.lock(); }, [] { instance().mutex_.unlock(); },
                   [] {
                     instance().waits_.clear();
                     instance().sources_.clear();
                     instance().mutex_.unlock();
                   });
  }

  std::mutex mutex_;
  std::map<Key, std::stop_source> sources_;
  std::vector<std::stop_source> waits_;
};

// The calling thread waits: its token is stopped at the next step.
class Waiting {
 public:
  Waiting() { Stops::instance().add_wait(source_); }
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;
  ~Waiting() { Stops::instance().remove_wait(source_); }
  std::stop_token token() const { return source_.get_token(); }

 private:
  std::stop_source source_;
};

inline void on_step(procguard_entry entry, const procguard_trip* trip) {
  if (trip->action == PROCGUARD_ACTION_EXCEPTION) {
    Stops::instance().request(entry);
  }
}

inline std::uint64_t nanoseconds(std::chrono::nanoseconds time, const char* what) {
  if (time.count() < 0) {
    throw std::invalid_argument(std::string(what) + ": negative");
  }
  return static_cast<std::uint64_t>(time.count());
}

}  // namespace detail

// A guard that was entered: leaves it when it goes. Movable. progress() is for the thread that
// entered, or for others that report for it.
class [[nodiscard]] Block {
 public:
  Block() = default;
  Block(Block&& other) noexcept
      : entry_(std::exchange(other.entry_, {})), has_token_(other.has_token_) {}
  Block& operator=(Block&& other) noexcept {
    if (this != &other) {
      leave();
      entry_ = std::exchange(other.entry_, {});
      has_token_ = other.has_token_;
    }
    return *this;
  }
  ~Block() { leave(); }

  // The timeout counts from now. Throws what is pending for the calling thread instead, the
  // outermost guard's first.
  void progress() {
    if (procguard_progress(entry_) != 0) [[unlikely]] {
      detail::raise_pending();
    }
  }

  // No step of the guard begins after this. An exception that was not thrown yet is withdrawn.
  void leave() noexcept {
    if (entry_.slot == nullptr) {
      return;
    }
    procguard_leave(entry_, nullptr);
    if (has_token_) {
      detail::Stops::instance().forget(entry_);
    }
    entry_ = {};
  }

  // Requests stop when an exception becomes pending: for waits that take a token. The token of an
  // exception that was thrown stays stopped; ask anew.
  std::stop_token stop_token() {
    has_token_ = true;
    return detail::Stops::instance().token(entry_);
  }

  bool entered() const noexcept { return procguard_is_entered(entry_) == 1; }

 private:
  friend class Guard;
  explicit Block(procguard_entry entry) : entry_(entry) {}

  procguard_entry entry_{};
  bool has_token_ = false;
};

// What time_guard() and mem_guard() have in common. Copies are the same guard.
class Guard {
 public:
  std::uint64_t id() const { return procguard_guard_id(guard_.get()); }

  // For the calling thread, until the block goes. std::system_error: it cannot be guarded
  // (no thread could be started, PROCGUARD_SOURCE asks for what cannot be had).
  Block enter() const {
    procguard_entry entry{};
    if (const int error = procguard_enter(guard_.get(), nullptr, &entry); error != 0) {
      throw std::system_error(error, std::generic_category(), "procguard: entering a guard");
    }
    return Block(entry);
  }

  // The last step of the guard, in any of its blocks.
  std::optional<Trip> last_trip() const {
    procguard_trip trip;
    return procguard_last_trip(guard_.get(), &trip) == 1 ? std::optional<Trip>(Trip(trip))
                                                         : std::nullopt;
  }

 protected:
  explicit Guard(procguard_options options) {
    options.size = sizeof(options);
    options.flags = PROCGUARD_PULL | PROCGUARD_BREAK_SYSCALLS;
    options.deliver = &detail::on_step;
    char error[160] = "";
    procguard_guard* guard = procguard_guard_new(&options, error, sizeof(error));
    if (guard == nullptr) {
      throw std::invalid_argument(error);
    }
    guard_.reset(guard, &procguard_guard_unref);
  }

  procguard_guard* get() const { return guard_.get(); }

 private:
  std::shared_ptr<procguard_guard> guard_;
};

// A callable that runs under a guard, each call in a block of its own.
template <typename GuardType, typename Function>
class Guarded {
 public:
  Guarded(GuardType guard, Function function)
      : guard_(std::move(guard)), function_(std::move(function)) {}

  template <typename... Arguments>
  decltype(auto) operator()(Arguments&&... arguments) {
    const Block block = guard_.enter();
    return std::invoke(function_, std::forward<Arguments>(arguments)...);
  }
  template <typename... Arguments>
  decltype(auto) operator()(Arguments&&... arguments) const {
    const Block block = guard_.enter();
    return std::invoke(function_, std::forward<Arguments>(arguments)...);
  }

  const GuardType& guard() const { return guard_; }
  void progress() const requires requires(const GuardType& guard) { guard.progress(); }
  { guard_.progress(); }

 private:
  GuardType guard_;
  Function function_;
};

struct TimeOptions {
  std::chrono::nanoseconds timeout = std::chrono::seconds(60);       // 0 fires at once
  std::chrono::nanoseconds grace_period = std::chrono::seconds(15);  // between steps; least 10 ms
  InterruptType interrupt_type = InterruptType::exception_then_signal;
  bool send_kill = false;  // SIGKILL instead of the last SIGTERM
  std::chrono::nanoseconds check_interval = std::chrono::milliseconds(500);
  const char* name = nullptr;  // under 48 bytes
};

// Wall time since a block was entered or the last progress.
class TimeGuard : public Guard {
 public:
  explicit TimeGuard(const TimeOptions& options) : Guard(convert(options)) {}

  // For the calling thread's innermost block of this guard; without one, for all its blocks. Throws
  // as Block::progress().
  void progress() const {
    if (procguard_guard_progress(get()) != 0) {
      detail::raise_pending();
    }
  }

  template <typename Function>
  auto operator()(Function&& function) const {
    return Guarded<TimeGuard, std::decay_t<Function>>(*this, std::forward<Function>(function));
  }

 private:
  static procguard_options convert(const TimeOptions& options) {
    procguard_options converted{};
    converted.resource = PROCGUARD_TIMEOUT;
    converted.interrupt_type = static_cast<std::uint32_t>(options.interrupt_type);
    converted.send_kill = options.send_kill ? 1 : 0;
    converted.limit = detail::nanoseconds(options.timeout, "timeout");
    const std::uint64_t grace = detail::nanoseconds(options.grace_period, "grace_period");
    converted.step_grace_ns = grace == 0 ? 1 : grace;  // 0 is the ABI's default
    converted.check_interval_ns = detail::nanoseconds(options.check_interval, "check_interval");
    converted.name = options.name;
    return converted;
  }
};

struct MemoryOptions {
  Bytes max_memory;
  bool absolute = true;                     // false: above the RSS at entry
  std::chrono::nanoseconds grace_period{};  // how long it may be over the limit
  std::chrono::nanoseconds secondary_grace_period = std::chrono::seconds(5);  // between steps
  InterruptType interrupt_type = InterruptType::exception_then_signal;
  bool send_kill = false;
  std::chrono::nanoseconds check_interval = std::chrono::milliseconds(500);
  const char* name = nullptr;
};

// RSS of the process. Where BPF cannot be had it is read every check_interval.
class MemGuard : public Guard {
 public:
  explicit MemGuard(const MemoryOptions& options) : Guard(convert(options)) {}

  template <typename Function>
  auto operator()(Function&& function) const {
    return Guarded<MemGuard, std::decay_t<Function>>(*this, std::forward<Function>(function));
  }

 private:
  static procguard_options convert(const MemoryOptions& options) {
    procguard_options converted{};
    converted.resource = options.absolute ? PROCGUARD_MEMORY : PROCGUARD_MEMORY_GROWTH;
    converted.interrupt_type = static_cast<std::uint32_t>(options.interrupt_type);
    converted.send_kill = options.send_kill ? 1 : 0;
    converted.limit = options.max_memory.count;
    converted.grace_ns = detail::nanoseconds(options.grace_period, "grace_period");
    const std::uint64_t steps =
        detail::nanoseconds(options.secondary_grace_period, "secondary_grace_period");
    converted.step_grace_ns = steps == 0 ? 1 : steps;
    converted.check_interval_ns = detail::nanoseconds(options.check_interval, "check_interval");
    converted.name = options.name;
    return converted;
  }
};

inline TimeGuard time_guard(const TimeOptions& options = {}) {
  return TimeGuard(options);
}
inline MemGuard mem_guard(const MemoryOptions& options) {
  return MemGuard(options);
}

// Progress for the innermost time guard of the calling thread. std::runtime_error: there is none.
inline void progress() {
  const procguard_entry entry = procguard_innermost_timeout();
  if (entry.slot == nullptr) {
    throw std::runtime_error("procguard: progress() without a time guard around it");
  }
  if (procguard_progress(entry) != 0) {
    detail::raise_pending();
  }
}

// Throws what is pending for the calling thread; no progress.
inline void checkpoint() {
  detail::raise_pending();
}

// Waits, and throws as soon as something becomes pending.
template <typename Rep, typename Period>
void sleep_for(std::chrono::duration<Rep, Period> time) {
  const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
  if (procguard_sleep(ns > 0 ? static_cast<std::uint64_t>(ns) : 0) == 1) {
    detail::raise_pending();
  }
}

// Waits until `done()`, and throws as soon as something becomes pending for the calling thread. The
// lock is held again when it throws.
template <typename Lock, typename Predicate>
void wait(std::condition_variable_any& condition, Lock& lock, Predicate done) {
  for (;;) {
    const detail::Waiting waiting;
    checkpoint();  // what is pending by now ends no wait any more
    if (condition.wait(lock, waiting.token(), done)) {
      return;
    }
  }
}

// The items of a range, one at a time; progress() after each of them.
template <typename Range>
class ProgressLoop {
 public:
  explicit ProgressLoop(Range&& range) : range_(std::forward<Range>(range)) {}

  struct End {};
  template <typename Inner, typename Sentinel>
  class Iterator {
   public:
    Iterator(Inner inner, Sentinel end) : inner_(std::move(inner)), end_(std::move(end)) {}
    decltype(auto) operator*() const { return *inner_; }
    Iterator& operator++() {
      progress();
      ++inner_;
      return *this;
    }
    bool operator!=(End) const { return inner_ != end_; }

   private:
    Inner inner_;
    Sentinel end_;
  };

  auto begin() {
    using std::begin;
    using std::end;
    return Iterator<decltype(begin(range_)), decltype(end(range_))>(begin(range_), end(range_));
  }
  End end() { return {}; }

 private:
  Range range_;
};
template <typename Range>
ProgressLoop<Range> progress_loop(Range&& range) {
  return ProgressLoop<Range>(std::forward<Range>(range));
}

}  // namespace procguard
