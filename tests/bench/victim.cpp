// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/victim.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>

#include <cerrno>
#include <ctime>

#include "sys/monotonic_clock.h"
#include "sys/pidfd.h"
#include "tests/support/child.h"

namespace procguard::bench {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kWorkBytes = 256U << 20;
constexpr core::Ns kLongestSpin = 5 * core::kSecond;
constexpr int kPatienceMs = 10'000;

}  // namespace

struct Victim::Shared {
  std::atomic<core::Ns> signalled_ns;
  std::atomic<bool> stop;
};

namespace {

std::atomic<core::Ns>* signalled_ns;  // the handler has no other way to them
std::atomic<bool>* stop;

void on_signal(int) {
  signalled_ns->store(sys::MonotonicClock().now());
  stop->store(true);
}

void touch(char* region) {
  for (std::size_t at = 0; at < kWorkBytes && !stop->load(std::memory_order_relaxed); at += kPage) {
    *const_cast<volatile char*>(region + at) = 1;
  }
  ::madvise(region, kWorkBytes, MADV_DONTNEED);
}

void spin() {
  const sys::MonotonicClock clock;
  const core::Ns end = clock.now() + kLongestSpin;
  while (!stop->load(std::memory_order_relaxed) && clock.now() < end) {
    for (int i = 0; i < 1000 && !stop->load(std::memory_order_relaxed); i++) {
    }
  }
}

// The child's life: says that it is ready; then a round a byte, until the pipe ends.
void live(Work work, int go, int done) {
  ::signal(kVictimSignal, on_signal);
  void* region = ::mmap(nullptr, kWorkBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (region == MAP_FAILED) {
    return;
  }
  ::madvise(region, kWorkBytes, MADV_NOHUGEPAGE);
  char byte = 0;
  while (::write(done, &byte, 1) == 1 && ::read(go, &byte, 1) == 1) {
    if (work == Work::kTouch) {
      touch(static_cast<char*>(region));
    } else {
      spin();
    }
  }
}

}  // namespace

Result<std::unique_ptr<Victim>> Victim::start(Work work) {
  std::unique_ptr<Victim> victim(new Victim);
  void* page =
      ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  int go[2];
  int done[2];
  if (page == MAP_FAILED || ::pipe2(go, O_CLOEXEC) != 0 || ::pipe2(done, O_CLOEXEC) != 0) {
    return Error::system("preparing a victim", errno);
  }
  victim->shared_ = new (page) Shared{};
  victim->go_.reset(go[1]);
  victim->done_.reset(done[0]);
  signalled_ns = &victim->shared_->signalled_ns;
  stop = &victim->shared_->stop;
  sys::Fd go_read(go[0]);
  sys::Fd done_write(done[1]);
  victim->child_ = std::make_unique<test::Child>([&] {
    victim->go_.reset();  // the parent's end is the last: the child ends with it
    live(work, go_read.get(), done_write.get());
  });
  auto pidfd = sys::open_pidfd(victim->pid());
  if (!pidfd) {
    return pidfd.error();
  }
  victim->pidfd_ = std::move(pidfd).value();
  if (auto ready = victim->wait(); !ready) {
    return ready.error();
  }
  return victim;
}

Victim::~Victim() {
  child_.reset();
  if (shared_ != nullptr) {
    ::munmap(shared_, sizeof(Shared));
  }
}

pid_t Victim::pid() const {
  return child_->pid();
}

Result<void> Victim::go() {
  shared_->signalled_ns = 0;
  shared_->stop = false;
  if (::write(go_.get(), "g", 1) != 1) {
    return Error::system("telling the victim to go", errno);
  }
  return {};
}

Result<void> Victim::wait() {
  pollfd ready{.fd = done_.get(), .events = POLLIN, .revents = 0};
  char byte = 0;
  while (::poll(&ready, 1, kPatienceMs) < 0 && errno == EINTR) {
  }
  if ((ready.revents & POLLIN) == 0 || ::read(done_.get(), &byte, 1) != 1) {
    return Error("the victim does not answer");
  }
  return {};
}

Result<core::Ns> Victim::signalled_at() {
  if (auto done = wait(); !done) {
    return done.error();
  }
  const core::Ns at = shared_->signalled_ns;
  if (at == 0) {
    return Error("no signal reached the victim");
  }
  return at;
}

}  // namespace procguard::bench
