// SPDX-License-Identifier: Apache-2.0
#include "proto/codec.h"

namespace procguard::proto {

void Writer::append(const void* body, std::size_t size) {
  const auto* raw = static_cast<const std::byte*>(body);
  bytes_.insert(bytes_.end(), raw, raw + size);
}

std::optional<Message> decode(std::span<const std::byte> record) {
  Message message;
  if (record.size() < sizeof(Header) || record.size() > kMaxRecord) {
    return std::nullopt;
  }
  std::memcpy(&message.header, record.data(), sizeof(Header));
  message.bodies = record.subspan(sizeof(Header));
  const Header& header = message.header;
  const std::uint64_t length = std::uint64_t{header.count} * header.size;
  if (header.magic != kMagic || length != message.bodies.size() ||
      (header.count != 0 && header.size == 0)) {
    return std::nullopt;
  }
  return message;
}

}  // namespace procguard::proto
