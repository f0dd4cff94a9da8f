// SPDX-License-Identifier: Apache-2.0
// A mapping of one BPF array map into this process; unmapped on destruction.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>

#include "core/result.h"

namespace procguard::kernel {

class Mapping {
 public:
  Mapping() = default;
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() {
    if (data_ != nullptr) {
      ::munmap(data_, size_);
    }
  }

  Result<void> map(int fd, std::size_t bytes, int protection) {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    size_ = (bytes + page - 1) / page * page;
    void* data = ::mmap(nullptr, size_, protection, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED) {
      return Error::system("mapping a BPF array", errno);
    }
    data_ = data;
    return {};
  }

  void* data() const { return data_; }

 private:
  void* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace procguard::kernel
