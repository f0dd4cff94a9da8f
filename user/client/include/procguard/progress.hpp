// SPDX-License-Identifier: Apache-2.0
// Progress of the calling thread's time guard.
#pragma once

#include <iterator>
#include <stdexcept>
#include <utility>

#include <procguard/exceptions.hpp>
#include <procguard/procguard.h>

namespace procguard {

// Progress for the innermost time guard of the calling thread. std::runtime_error: there is none.
inline void progress() {
  const procguard_entry entry = procguard_innermost_timeout();
  if (entry.slot == nullptr) {
    throw std::runtime_error("procguard: progress() without a time guard around it");
  }
  if (procguard_progress(entry) != 0) {
    detail::raise_pending();
  }
}

// The items of a range, one at a time; progress() after each of them.
template <typename Range>
class ProgressLoop {
 public:
  explicit ProgressLoop(Range&& range) : range_(std::forward<Range>(range)) {}

  struct End {};
  template <typename Inner, typename Sentinel>
  class Iterator {
   public:
    Iterator(Inner inner, Sentinel end) : inner_(std::move(inner)), end_(std::move(end)) {}
    decltype(auto) operator*() const { return *inner_; }
    Iterator& operator++() {
      progress();
      ++inner_;
      return *this;
    }
    bool operator!=(End) const { return inner_ != end_; }

   private:
    Inner inner_;
    Sentinel end_;
  };

  auto begin() {
    using std::begin;
    using std::end;
    return Iterator<decltype(begin(range_)), decltype(end(range_))>(begin(range_), end(range_));
  }
  End end() { return {}; }

 private:
  Range range_;
};
template <typename Range>
ProgressLoop<Range> progress_loop(Range&& range) {
  return ProgressLoop<Range>(std::forward<Range>(range));
}

}  // namespace procguard
