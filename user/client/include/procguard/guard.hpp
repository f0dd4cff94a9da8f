// SPDX-License-Identifier: Apache-2.0
// What all guards have in common: blocks, and functions that run under them.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <system_error>
#include <utility>

#include <procguard/exceptions.hpp>
#include <procguard/procguard.h>
#include <procguard/stops.hpp>
#include <procguard/types.hpp>

namespace procguard {

namespace detail {

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
  // (no thread could be started, PROCGUARD_SOURCE asks for what cannot be had, the memory that a
  // growth counts from cannot be read).
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

}  // namespace procguard
