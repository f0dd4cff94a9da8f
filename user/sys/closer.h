// SPDX-License-Identifier: Apache-2.0
// Closer: closes descriptors that somebody else chose. close(2) may wait for whoever gave them (the
// file of a FUSE server, a socket that lingers), for good: threads do it that have ordinary
// priority and no capabilities, and are started when all of them wait, up to a few. They are never
// joined. One thread calls; nothing here waits.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>

#include "sys/fd.h"

namespace procguard::sys {

class Closer {
 public:
  Closer();
  Closer(const Closer&) = delete;
  Closer& operator=(const Closer&) = delete;

  // `giver`: who is to answer for it if this takes long.
  void close(Fd fd, std::uint32_t giver);
  // How many of this one's are not closed yet.
  std::size_t waiting(std::uint32_t giver);

 private:
  using Count = std::atomic<std::size_t>;
  struct Job {
    int fd;
    std::shared_ptr<Count> of_giver;
    std::shared_ptr<Count> of_all;
  };
  static void work(const Fd& queue);
  void start_thread();

  // Pointers to jobs go through a pipe: nobody at real-time priority waits for a mutex that a
  // thread holds which gets no CPU.
  std::shared_ptr<Fd> out_;
  Fd in_;
  std::map<std::uint32_t, std::shared_ptr<Count>> givers_;
  std::shared_ptr<Count> all_ = std::make_shared<Count>(0);
  std::size_t threads_ = 0;
};

}  // namespace procguard::sys
