// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/grower.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "sys/pidfd.h"

namespace procguard::bench {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kBytes = 256U << 20;
constexpr unsigned kLifeSeconds = 20;

// An unlinked file whose pages are in the page cache; one for all growers of this run.
Result<int> cached_file() {
  static sys::Fd file;
  if (file) {
    return file.get();
  }
  const char* directory = std::getenv("TMPDIR");
  std::string path = std::string(directory == nullptr ? "/tmp" : directory) + "/bench-XXXXXX";
  sys::Fd made(::mkostemp(path.data(), O_CLOEXEC));
  if (!made) {
    return Error::system("creating " + path, errno);
  }
  ::unlink(path.c_str());
  const std::vector<char> block(1U << 20, 'x');
  for (std::size_t written = 0; written < kBytes; written += block.size()) {
    if (::write(made.get(), block.data(), block.size()) != static_cast<ssize_t>(block.size())) {
      return Error::system("writing " + path, errno);
    }
  }
  file = std::move(made);
  return file.get();
}

char* map(Pages pages, int file) {
  const int kind = pages == Pages::kFile    ? MAP_SHARED
                   : pages == Pages::kShmem ? MAP_SHARED | MAP_ANONYMOUS
                                            : MAP_PRIVATE | MAP_ANONYMOUS;
  void* at = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, kind | MAP_NORESERVE,
                    pages == Pages::kFile ? file : -1, 0);
  if (at == MAP_FAILED) {
    return nullptr;
  }
  if (pages != Pages::kFile) {
    ::madvise(at, kBytes, pages == Pages::kHuge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  }
  return static_cast<char*>(at);
}

void touch(Pages pages, char* from, std::size_t bytes) {
  for (std::size_t at = 0; at < bytes; at += kPage) {
    volatile char* page = from + at;
    if (pages == Pages::kFile) {
      static_cast<void>(*page);
    } else {
      *page = 1;
    }
  }
}

struct Plan {
  Pages pages;
  int file;
  int threads;
};

void grow(const Plan& plan) {
  char* from = map(plan.pages, plan.file);
  if (from == nullptr) {
    return;
  }
  const std::size_t part = kBytes / static_cast<std::size_t>(plan.threads);
  std::vector<std::thread> others;
  for (int i = 1; i < plan.threads; i++) {
    others.emplace_back(touch, plan.pages, from + static_cast<std::size_t>(i) * part, part);
  }
  touch(plan.pages, from, part);
  for (auto& other : others) {
    other.join();
  }
}

// The keeper's life: until the parent, which is the bench, ends it.
int keep(void*) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  for (;;) {
    ::pause();
  }
}

// The grower's life.
void live(const Plan& plan, int go, int told) {
  ::alarm(kLifeSeconds);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  static std::array<char, 16384> stack;
  const pid_t keeper =
      ::clone(keep, stack.data() + stack.size(), CLONE_VM | CLONE_PARENT | SIGCHLD, nullptr);
  char byte = 0;
  if (keeper > 0 && ::write(told, &keeper, sizeof(keeper)) == sizeof(keeper) &&
      ::read(go, &byte, 1) == 1) {
    grow(plan);
  }
}

}  // namespace

Result<std::unique_ptr<Grower>> Grower::start(Pages pages, int threads) {
  int file = -1;
  if (pages == Pages::kFile) {
    auto cached = cached_file();
    if (!cached) {
      return cached.error();
    }
    file = cached.value();
  }
  int go[2];
  int told[2];
  if (::pipe2(go, O_CLOEXEC) != 0 || ::pipe2(told, O_CLOEXEC) != 0) {
    return Error::system("pipe", errno);
  }
  const sys::Fd go_read(go[0]);
  const sys::Fd told_read(told[0]);
  sys::Fd told_write(told[1]);
  std::unique_ptr<Grower> grower(new Grower);
  grower->go_.reset(go[1]);
  grower->pid_ = ::fork();
  if (grower->pid_ == 0) {
    grower->go_.reset();
    live({.pages = pages, .file = file, .threads = threads}, go_read.get(), told_write.get());
    ::_exit(0);
  }
  told_write.reset();
  if (grower->pid_ < 0 ||
      ::read(told_read.get(), &grower->keeper_, sizeof(pid_t)) != sizeof(pid_t)) {
    return Error("starting a grower and its keeper failed");
  }
  auto pidfd = sys::open_pidfd(grower->pid_);
  if (!pidfd) {
    return pidfd.error();
  }
  grower->pidfd_ = std::move(pidfd).value();
  return grower;
}

Grower::~Grower() {
  for (const pid_t pid : {pid_, keeper_}) {
    if (pid > 0) {
      ::kill(pid, SIGKILL);
      ::waitpid(pid, nullptr, 0);
    }
  }
}

Result<void> Grower::go() {
  if (::write(go_.get(), "g", 1) != 1) {
    return Error::system("telling the grower to go", errno);
  }
  return {};
}

Result<void> Grower::wait_for_death() {
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0) {
    if (errno != EINTR) {
      return Error::system("waiting for the grower", errno);
    }
  }
  pid_ = -1;
  if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
    return Error("the grower was not killed, its wait status is " + std::to_string(status));
  }
  return {};
}

}  // namespace procguard::bench
