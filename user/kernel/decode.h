// SPDX-License-Identifier: Apache-2.0
// Bytes of the ring -> records. Trusts nothing: a record of another size or ABI is none.
#pragma once

#include <cstddef>
#include <cstring>
#include <optional>

#include "bpf/contract.h"

namespace procguard::kernel {

inline std::optional<pg_edge> decode_edge(const void* data, std::size_t size) {
  pg_edge edge;
  if (size < sizeof(edge)) {
    return std::nullopt;
  }
  std::memcpy(&edge, data, sizeof(edge));
  if (edge.abi != PG_ABI || edge.size != sizeof(edge) || edge.watch == 0) {
    return std::nullopt;
  }
  return edge;
}

}  // namespace procguard::kernel
