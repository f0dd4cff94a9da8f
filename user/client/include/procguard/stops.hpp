// SPDX-License-Identifier: Apache-2.0
// Not for programs: how a step of a guard reaches the threads that wait. See wait.hpp and
// Block::stop_token().
#pragma once

#include <pthread.h>

#include <cstdint>
#include <map>
#include <mutex>
#include <stop_token>
#include <utility>
#include <vector>

#include <procguard/procguard.h>

namespace procguard::detail {

// The stop sources of blocks that were asked for one, and of waits. The library calls back on a
// thread of its own, which knows a block by its handle only: the block may be gone. One for all
// shared objects of a program: a guard that one of them made ends the waits of the others.
class PROCGUARD_API Stops {
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

}  // namespace procguard::detail
