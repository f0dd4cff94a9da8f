// SPDX-License-Identifier: Apache-2.0
// Skeleton: owns a generated libbpf skeleton. open -> set rodata and sizes -> load, each step
// checked; the destructor detaches and frees everything.
#pragma once

#include <cerrno>
#include <memory>
#include <string>

#include "core/result.h"

namespace procguard::kernel {

template <typename T>
class Skeleton {
 public:
  static Result<Skeleton> open() {
    T* raw = T::open();
    if (raw == nullptr) {
      return Error::system("opening the BPF object", errno);
    }
    return Skeleton(raw);
  }

  // libbpf answers with a negative errno.
  Result<void> load() {
    if (int code = T::load(raw_.get()); code != 0) {
      return Error::system("loading the BPF programs", -code);
    }
    return {};
  }

  T* operator->() const { return raw_.get(); }
  T* get() const { return raw_.get(); }

 private:
  struct Destroy {
    void operator()(T* raw) const { T::destroy(raw); }
  };
  explicit Skeleton(T* raw) : raw_(raw) {}

  std::unique_ptr<T, Destroy> raw_;
};

}  // namespace procguard::kernel
