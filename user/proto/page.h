// SPDX-License-Identifier: Apache-2.0
// The page of a program with guards of its own: a memfd that the program writes and the agent
// reads, so that its guards show in lists, at the cost of some stores a guard. The agent maps it
// read-only and believes nothing in it but what it checks. The memfd must be sealed against
// shrinking and growing.
#pragma once

#include <cstdint>

#include "bpf/contract.h"

namespace procguard::proto {

inline constexpr std::uint32_t kPageMagic = 0x70675347;  // "GSgp"
inline constexpr std::uint32_t kPageSlots = 1023;

enum PageState : std::uint32_t {
  kSlotFree = 0,
  kSlotEntered = 1,
};

// A guard that is entered now. Whoever writes it makes `version` odd first and even again at the
// end; a reader that sees it odd or changed looks again, some times.
struct PageSlot {
  std::uint32_t version;
  std::uint32_t state;     // PageState
  std::uint32_t tid;       // as the program itself sees it
  std::uint32_t resource;  // enum pg_resource: timeout, memory or memory_growth
  std::uint64_t limit;     // ns or bytes
  // timeout: when it was entered, or the last progress that the program's monitor has seen, which
  // looks when a step is due (progress itself costs no store here); memory: RSS at entry.
  std::uint64_t base;
  std::uint64_t grace_ns;
  std::uint64_t guard;  // the program's own number of it
  std::uint32_t next_step;
  std::uint32_t steps;
  std::uint64_t padding;
};

struct PageHeader {
  std::uint32_t magic;
  std::uint32_t abi;        // PG_ABI
  std::uint32_t slots;      // kPageSlots
  std::uint32_t used;       // slots below this have been used
  std::uint64_t not_shown;  // how often a guard found no free slot
  std::uint64_t padding[5];
};

struct Page {
  PageHeader header;
  PageSlot slot[kPageSlots];
};

static_assert(sizeof(PageHeader) == 64 && sizeof(PageSlot) == 64);
static_assert(sizeof(Page) == 64UL * 1024);

}  // namespace procguard::proto
