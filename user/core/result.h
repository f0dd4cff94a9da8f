// SPDX-License-Identifier: Apache-2.0
// Result<T>: a value, or an Error that says what was tried and on what. Nothing in procguard throws
// across a layer; a Result that is not looked at is a compiler warning, and warnings are errors.
//
//   Result<Fd> r = open_file(path);
//   if (!r) return r.error().in("reading the cgroup");   // pass on, with context
//   use(r.value());
#pragma once

#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <variant>

namespace procguard {

class [[nodiscard]] Error {
 public:
  // `code` is an errno value, or 0 where no system call failed.
  explicit Error(std::string message, int code = 0) : code_(code), message_(std::move(message)) {}

  // "pidfd_open(4242): No such process"
  static Error system(const std::string& what, int code) {
    return Error(what + ": " + std::strerror(code), code);
  }

  // The same error one layer up: "arming guard g1: pidfd_open(4242): No such process".
  Error in(const std::string& context) const { return Error(context + ": " + message_, code_); }

  int code() const { return code_; }
  const std::string& message() const { return message_; }

 private:
  int code_;
  std::string message_;
};

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::move(value)) {}      // NOLINT(google-explicit-constructor)
  Result(Error error) : state_(std::move(error)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  // Only where ok().
  T& value() & { return std::get<0>(state_); }
  const T& value() const& { return std::get<0>(state_); }
  T value() && { return std::get<0>(std::move(state_)); }  // a value: also what a loop runs over
  T* operator->() { return &std::get<0>(state_); }
  const T* operator->() const { return &std::get<0>(state_); }

  // Only where not ok().
  const Error& error() const { return std::get<1>(state_); }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return !error_; }
  explicit operator bool() const { return ok(); }
  const Error& error() const { return *error_; }

 private:
  std::optional<Error> error_;
};

}  // namespace procguard
