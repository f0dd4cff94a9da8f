// SPDX-License-Identifier: Apache-2.0
#include "tests/agent/victims.h"

#include <linux/securebits.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <new>
#include <thread>

#include "sys/pidfd.h"
#include "sys/sched_fifo.h"
#include "tests/agent/ends.h"

namespace procguard::test {
namespace {

constexpr unsigned kLifeSeconds = 120;  // whatever becomes of the test
constexpr std::size_t kStep = 64 << 10;

[[noreturn]] void stay() {
  for (;;) {
    ::pause();
  }
}

// What is ended with the test's thread; its children have kLifeSeconds alone.
void be_bound() {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
}

[[noreturn]] void spin_for_good() {
  for (volatile bool on = true; on;) {
  }
  ::_exit(0);
}

// When it dies is when it was signalled: it does not wait for a CPU first.
void be_prompt() {
  sys::request_sched_fifo();
}

void grow_now(Board& board) {
  be_prompt();
  while (board.grow_at_ns == 0 || now_ns() < board.grow_at_ns) {
    sleep_ns(core::kMillisecond);
  }
  void* memory =
      ::mmap(nullptr, 2 * kGrowsOver, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    ::_exit(1);
  }
  ::madvise(memory, 2 * kGrowsOver, MADV_NOHUGEPAGE);
  for (std::size_t done = 0; done < 2 * kGrowsOver;) {
    for (std::size_t at = 0; at < kStep; at += 4096) {
      static_cast<volatile char*>(memory)[done + at] = 1;
    }
    done += kStep;
    if (done >= kGrowsOver - kGrowsSlack && board.near_ns == 0) {
      board.near_ns = now_ns();
    }
    if (done >= kGrowsOver + kGrowsSlack && board.beyond_ns == 0) {
      board.beyond_ns = now_ns();
    }
    sleep_ns(core::kMillisecond / 2);
  }
}

}  // namespace

Victim::Victim() {
  void* page =
      ::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  EXPECT_NE(page, MAP_FAILED);
  board_ = new (page) Board{};
}

Victim::~Victim() {
  if (child_) {
    ::syscall(SYS_pidfd_send_signal, child_.get(), SIGKILL, nullptr, 0);
  }
  process_.reset();
  ::munmap(board_, sizeof(Board));
}

void Victim::start(Body body) {
  process_ = std::make_unique<Sleeper>([this, body] {
    be_bound();
    ::alarm(kLifeSeconds);
    body(*board_);
    stay();
  });
  EXPECT_TRUE(wait_until([this] { return board_->ready.load(); }, 30s));
  if (board_->child != 0) {
    auto opened = sys::open_pidfd(board_->child);
    EXPECT_TRUE(opened.ok());
    child_ = opened ? std::move(opened).value() : sys::Fd();
  }
}

std::vector<pid_t> Victim::members() const {
  std::vector<pid_t> all{pid()};
  if (board_->child != 0) {
    all.push_back(board_->child);
  }
  return all;
}

void Victim::sleep(Board& board) {
  be_prompt();
  board.ready = true;
}

void Victim::ignore_int(Board& board) {
  be_prompt();
  ::signal(SIGINT, SIG_IGN);
  board.ready = true;
}

void Victim::have_a_thread(Board& board) {
  be_prompt();
  std::thread([&board] {
    be_prompt();
    board.tid = static_cast<pid_t>(::syscall(SYS_gettid));
    board.ready = true;
    stay();
  }).join();
}

void Victim::have_a_grandchild(Board& board) {
  be_prompt();
  if (::fork() == 0) {
    ::setsid();
    be_prompt();
    if (::fork() == 0) {
      ::alarm(kLifeSeconds);
      be_prompt();
      board.child = ::getpid();
      board.ready = true;
      stay();
    }
    // It stays: a child that has no parent left belongs to nobody's tree before there is a guard.
    stay();
  }
}

void Victim::grow(Board& board) {
  board.ready = true;
  grow_now(board);
}

void Victim::grow_by_a_child(Board& board) {
  be_prompt();
  if (::fork() == 0) {
    ::alarm(kLifeSeconds);
    board.child = ::getpid();
    board.ready = true;
    grow_now(board);
    stay();
  }
}

void Victim::nap(Board& board) {
  be_prompt();
  board.ready = true;
  for (;;) {
    sleep_ns(5 * core::kMillisecond);
  }
}

void Victim::spin_on(Board& board) {
  board.ready = true;
  spin_for_good();
}

void Victim::be_a_user(Board& board) {
  // Its capabilities stay, so that it can come back, as a set-uid program does.
  ::prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP);
  if (::setresuid(kUser, kUser, kUser) != 0) {
    ::_exit(1);
  }
  if (::fork() == 0) {
    ::alarm(kLifeSeconds);
    board.child = ::getpid();
    board.ready = true;
    while (!board.become_root) {
      sleep_ns(core::kMillisecond);
    }
    board.is_root = ::setresuid(0, 0, 0) == 0;
    spin_for_good();
  }
}

void Victim::fork_without_end() {
  be_bound();
  for (;;) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::_exit(0);
    }
    ::waitpid(child, nullptr, 0);
  }
}

void Victim::spin() {
  be_bound();
  spin_for_good();
}

}  // namespace procguard::test
