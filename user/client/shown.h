// SPDX-License-Identifier: Apache-2.0
// Shown: an entry's line in the page that the agent reads (proto/page.h). The page is made for the
// program's first session with an agent and stays for the next ones; without a session nothing is
// shown, which costs a branch.
//
// An entry takes its slot when it is first shown and keeps it, as entries are used again and never
// freed: entering needs no search, no lock and no system call, and a slot has one writer.
#pragma once

#include <atomic>
#include <cstdint>

#include "core/result.h"
#include "proto/page.h"

namespace procguard::client {

// The page, while there is a session.
inline std::atomic<proto::Page*> g_shown_page{nullptr};

// The monitor's.
class SessionPage {
 public:
  // The process's. Never destroyed: entries have slots in it.
  static SessionPage& instance();

  // The sealed memfd, made if there is none.
  Result<int> descriptor();
  // From now on those who enter are shown. Only after descriptor().
  void open() { g_shown_page.store(page_, std::memory_order_release); }
  static void close() { g_shown_page.store(nullptr, std::memory_order_release); }
  // In a fork's child: it is the parent's. No entry may have a slot any more.
  void abandon();

 private:
  int fd_ = -1;
  proto::Page* page_ = nullptr;
};

// What there is to know of an entry.
struct ShownGuard {
  std::uint32_t tid = 0;
  std::uint32_t resource = 0;
  std::uint64_t limit = 0;
  std::uint64_t base = 0;
  std::uint64_t grace_ns = 0;
  std::uint64_t guard = 0;
  std::uint32_t next_step = 0;
  std::uint32_t steps = 0;
};

// Of one entry; its enterer's while it is free, then its holder's.
class Shown {
 public:
  // Writes the line, or writes it anew.
  void put(proto::Page& page, const ShownGuard& guard);
  void take_away() {
    if (state_ != kHidden) [[unlikely]] {
      clear();
    }
  }
  // The page is no longer ours.
  void forget() { *this = {}; }

 private:
  enum State : std::uint8_t { kHidden, kShown, kCounted };

  void clear();

  proto::PageSlot* slot_ = nullptr;
  State state_ = kHidden;
};

}  // namespace procguard::client
