// SPDX-License-Identifier: Apache-2.0
#include "sys/closer.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <csignal>
#include <system_error>
#include <thread>
#include <utility>

#include "sys/caps.h"

namespace procguard::sys {
namespace {

constexpr std::size_t kMostThreads = 8;
constexpr std::size_t kPointer = sizeof(void*);

}  // namespace

Closer::Closer() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) == 0) {
    out_ = std::make_shared<Fd>(ends[0]);
    in_ = Fd(ends[1]);
    ::fcntl(in_.get(), F_SETFL, O_NONBLOCK);  // the writing end alone
  }
}

void Closer::close(Fd fd, std::uint32_t giver) {
  if (!fd) {
    return;
  }
  auto& of_giver = givers_[giver];
  if (!of_giver) {
    of_giver = std::make_shared<Count>(0);
  }
  ++*of_giver;
  if (++*all_ > threads_ && threads_ < kMostThreads) {
    start_thread();
  }
  auto job = std::make_unique<Job>(Job{.fd = fd.release(), .of_giver = of_giver, .of_all = all_});
  Job* const pointer = job.get();
  // Where it does not fit thousands wait: this one stays open, and stays counted.
  if (::write(in_.get(), &pointer, kPointer) == kPointer) {
    static_cast<void>(job.release());
  }
}

std::size_t Closer::waiting(std::uint32_t giver) {
  const auto found = givers_.find(giver);
  if (found == givers_.end()) {
    return 0;
  }
  const std::size_t count = *found->second;
  if (count == 0) {
    givers_.erase(found);
  }
  return count;
}

void Closer::start_thread() {
  if (!out_) {
    return;
  }
  try {
    std::thread([queue = out_] { work(*queue); }).detach();
    ++threads_;
  } catch (const std::system_error&) {
    // Those there are go on, or the next one tries again.
  }
}

void Closer::work(const Fd& queue) {
  sigset_t all;
  ::sigfillset(&all);
  (void)::pthread_sigmask(SIG_SETMASK, &all, nullptr);
  (void)give_up_all();
  Job* pointer = nullptr;
  while (::read(queue.get(), &pointer, kPointer) == kPointer) {
    const std::unique_ptr<Job> job(pointer);
    ::close(job->fd);
    --*job->of_giver;
    --*job->of_all;
  }
}

}  // namespace procguard::sys
