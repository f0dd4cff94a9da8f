// SPDX-License-Identifier: Apache-2.0
// A hash map of the kernel, typed. Walks are batch look-ups: one by get_next_key starts again when
// the key it stands on is deleted, which under a fork bomb is always.
#pragma once

#include <bpf/bpf.h>

#include <cerrno>
#include <optional>
#include <vector>

#include "core/result.h"

namespace procguard::kernel {

template <typename Key, typename Value>
class HashView {
 public:
  explicit HashView(int fd) : fd_(fd) {}

  std::optional<Value> find(const Key& key) const {
    Value value;
    if (bpf_map_lookup_elem(fd_, &key, &value) != 0) {
      return std::nullopt;
    }
    return value;
  }

  Result<void> put(const Key& key, const Value& value) const {
    if (bpf_map_update_elem(fd_, &key, &value, BPF_ANY) != 0) {
      return Error::system("bpf map update", errno);
    }
    return {};
  }

  void erase(const Key& key) const { bpf_map_delete_elem(fd_, &key); }

  // Every entry that lives through the walk is in it, once.
  Result<std::vector<Value>> values() const {
    std::vector<Value> all;
    std::vector<Key> keys(kBatch);
    std::vector<Value> batch(kBatch);
    __u32 position = 0;
    bool first = true;
    for (;;) {
      __u32 count = static_cast<__u32>(batch.size());
      int failed = bpf_map_lookup_batch(fd_, first ? nullptr : &position, &position, keys.data(),
                                        batch.data(), &count, nullptr);
      if (failed != 0 && errno == ENOSPC) {  // a bucket larger than the batch
        keys.resize(keys.size() * 2);
        batch.resize(batch.size() * 2);
        continue;
      }
      if (failed != 0 && errno != ENOENT) {
        return Error::system("bpf map batch look-up", errno);
      }
      all.insert(all.end(), batch.begin(), batch.begin() + count);
      if (failed != 0) {
        return all;
      }
      first = false;
    }
  }

 private:
  static constexpr std::size_t kBatch = 256;
  int fd_;
};

}  // namespace procguard::kernel
