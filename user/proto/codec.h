// SPDX-License-Identifier: Apache-2.0
// Records <-> messages. Encoding cannot fail; decoding trusts nothing. Pure.
#pragma once

#include <cstddef>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "proto/messages.h"

namespace procguard::proto {

using Bytes = std::vector<std::byte>;

// A record that is being written. Bodies are all of one kind.
class Writer {
 public:
  Writer(Op op, std::uint32_t request, std::uint16_t flags = 0) : bytes_(sizeof(Header)) {
    header_.op = static_cast<std::uint16_t>(op);
    header_.request = request;
    header_.flags = flags;
  }

  // False, and nothing added: the record is full.
  template <typename Body>
  bool add(const Body& body) {
    static_assert(std::is_trivially_copyable_v<Body> && sizeof(Body) % 8 == 0);
    if (header_.count >= kMostBodies<Body>) {
      return false;
    }
    header_.size = sizeof(Body);
    header_.count++;
    append(&body, sizeof(Body));
    return true;
  }
  void flag(Flags flag) { header_.flags |= flag; }
  std::uint32_t count() const { return header_.count; }

  const Bytes& bytes() {
    std::memcpy(bytes_.data(), &header_, sizeof(header_));
    return bytes_;
  }

 private:
  void append(const void* body, std::size_t size);

  Header header_;
  Bytes bytes_;
};

// A record that was received. `bodies` points into the received bytes.
struct Message {
  Header header;
  std::span<const std::byte> bodies;

  Op op() const { return static_cast<Op>(header.op); }
  bool has(Flags flag) const { return (header.flags & flag) != 0; }

  // The bodies as this kind; nothing if they are of another size.
  template <typename Body>
  std::optional<std::vector<Body>> as() const {
    static_assert(std::is_trivially_copyable_v<Body>);
    if (header.count != 0 && header.size != sizeof(Body)) {
      return std::nullopt;
    }
    std::vector<Body> all(header.count);
    if (!all.empty()) {
      std::memcpy(all.data(), bodies.data(), bodies.size());
    }
    return all;
  }
  // Exactly one.
  template <typename Body>
  std::optional<Body> one() const {
    Body body;
    if (header.count != 1 || header.size != sizeof(Body)) {
      return std::nullopt;
    }
    std::memcpy(&body, bodies.data(), sizeof(body));
    return body;
  }
};

// Nothing: too short, another protocol, or its length is not what it says.
std::optional<Message> decode(std::span<const std::byte> record);

// A NUL-padded field. What does not fit is cut.
template <std::size_t Size>
void put_text(char (&field)[Size], std::string_view text) {
  std::memset(field, 0, Size);
  text.copy(field, Size - 1);
}

template <std::size_t Size>
std::string get_text(const char (&field)[Size]) {
  return {field, ::strnlen(field, Size)};
}

}  // namespace procguard::proto
