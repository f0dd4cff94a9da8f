// SPDX-License-Identifier: Apache-2.0
// A fork bomb with a fuse: it lives on however many of its processes are killed one by one, has
// never more than LIVE processes, and ends by itself.
//   fork_bomb --kind chain|wide|setsid|vfork|threads [--live N] [--seconds SEC] [--state FILE]
//             [--ignore SIG,...]
//   chain:   each process forks one and exits at once; several such chains side by side
//   wide:    each process forks two, and again as long as there is room
//   setsid:  as wide, by a double fork and setsid
//   vfork:   as wide, by vfork and exec of itself
//   threads: as wide, forked by a thread that is not the leader; leaders have exited
// Prints "ready" when half of LIVE (chain: a tenth) have lived at the same time. FILE (default:
// none) is mapped; its first 8 bytes count the processes born so far: once nothing lives that
// number stands still.
//
// Room is kept in slots of shared memory that hold the pid of a live process. A slot whose process
// is gone, however it went, is free: killing does not use up the bomb.
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>

#include <atomic>

#include "common.h"

namespace {

using namespace programs;

constexpr int kSlots = 1024;

struct State {
  std::atomic<uint64_t> born;
  int live;
  int kind;
  double end;  // CLOCK_MONOTONIC seconds
  // 0 = free, pid = lives there, -pid = that process is about to fork into it
  std::atomic<int> slot[kSlots];
};

enum Kind { kChain, kWide, kSetsid, kVfork, kThreads };
const char* const kKinds[] = {"chain", "wide", "setsid", "vfork", "threads"};

State* state;
int state_fd;

// Ended, even if nobody has reaped it yet: not every init is quick.
bool gone(int pid) {
  pid = pid < 0 ? -pid : pid;
  if (kill(pid, 0) != 0) {
    return errno == ESRCH;
  }
  char path[32];
  char text[512];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  const ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
  close(fd);
  if (size <= 0) {
    return false;
  }
  text[size] = '\0';
  // A leader that has ended before its threads looks like a zombie too: its group counts them.
  const char* end_of_comm = strrchr(text, ')');
  char letter = '?';
  long threads = 2;
  return end_of_comm != nullptr &&
         sscanf(end_of_comm + 1,
                " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %ld", &letter,
                &threads) == 2 &&
         (letter == 'Z' || letter == 'X') && threads <= 1;
}

// Takes a free slot for the process about to be forked; -1 if none was found. Looks at a few only:
// a full bomb that looks at all of them all the time leaves no CPU to anyone.
int claim() {
  constexpr int kTries = 4;
  const int me = getpid();
  static unsigned hint = 0;
  hint += static_cast<unsigned>(me);  // processes and their children look in different places
  for (int i = 0; i < kTries; ++i) {
    const int at = static_cast<int>(hint++ % static_cast<unsigned>(state->live));
    int seen = state->slot[at];
    if ((seen == 0 || (seen != -me && gone(seen))) &&
        state->slot[at].compare_exchange_strong(seen, -me)) {
      return at;
    }
  }
  return -1;
}

// From "claimer is about to fork" to "pid lives there". Done by parent and child, whoever comes
// first, since either may be killed or exit before it can. False: the slot is another's by now.
bool hand_over(int at, int claimer, int pid) {
  int expected = -claimer;
  return state->slot[at].compare_exchange_strong(expected, pid) || expected == pid;
}

// In the new process.
void settle(int at, int claimer) {
  const double left = state->end - seconds_now();
  if (!hand_over(at, claimer, getpid()) || left <= 0) {
    _exit(0);
  }
  ++state->born;
  limit_life(static_cast<unsigned>(left) + 2);
}

[[noreturn]] void leave() {
  const int me = getpid();
  for (int i = 0; i < state->live; ++i) {
    int expected = me;
    state->slot[i].compare_exchange_strong(expected, 0);
  }
  _exit(0);
}

[[noreturn]] void live_on();

// Forks one more, by the kind's own way. False: no room, or the system refused.
bool spawn() {
  const int at = claim();
  if (at < 0) {
    return false;
  }
  const int me = getpid();
  pid_t child = -1;
  if (state->kind == kVfork) {
    char slot_text[16];
    char claimer_text[16];
    char fd_text[16];
    snprintf(slot_text, sizeof slot_text, "%d", at);
    snprintf(claimer_text, sizeof claimer_text, "%d", me);
    snprintf(fd_text, sizeof fd_text, "%d", state_fd);
    child = vfork();  // NOLINT(clang-analyzer-security.insecureAPI.vfork)
    if (child == 0) {
      execl("/proc/self/exe", "fork_bomb", "--member", fd_text, slot_text, claimer_text, nullptr);
      _exit(3);
    }
  } else {
    child = fork();
    if (child == 0 && state->kind == kSetsid) {
      setsid();
      const pid_t grandchild = fork();
      if (grandchild != 0) {
        hand_over(at, me, grandchild > 0 ? grandchild : 0);
        _exit(0);
      }
    }
    if (child == 0) {
      settle(at, me);
      live_on();
    }
  }
  if (child < 0) {
    state->slot[at] = 0;
  } else if (state->kind != kSetsid) {
    hand_over(at, me, child);
  }
  return child > 0;
}

void grow_until_end() {
  while (seconds_now() < state->end) {
    if (state->kind == kChain) {
      sleep_for(0.004);  // else the bomb leaves no CPU to whoever is to end it
    }
    const bool forked = spawn();
    if (state->kind == kChain && forked) {
      leave();
    }
    if (!forked || !spawn()) {
      sleep_for(0.025);  // no room: let the others run
    }
  }
  _exit(0);
}

void live_on() {
  if (state->kind == kThreads) {
    pthread_t thread;
    const auto body = [](void*) -> void* { return grow_until_end(), nullptr; };
    if (pthread_create(&thread, nullptr, body, nullptr) != 0) {
      _exit(3);
    }
    pthread_exit(nullptr);
  }
  grow_until_end();
  _exit(0);
}

void map_state() {
  void* at = mmap(nullptr, sizeof(State), PROT_READ | PROT_WRITE, MAP_SHARED, state_fd, 0);
  if (at == MAP_FAILED) {
    fail("mmap");
  }
  state = static_cast<State*>(at);
}

[[noreturn]] void be_member(Args* args) {
  state_fd = static_cast<int>(parse_number(args->next()));
  const int at = static_cast<int>(parse_number(args->next()));
  const int claimer = static_cast<int>(parse_number(args->next()));
  map_state();
  settle(at, claimer);
  live_on();
}

}  // namespace

int main(int argc, char** argv) {
  Args args(argc, argv);
  if (args.flag("--member")) {
    be_member(&args);
  }
  int live = 200;
  int kind = -1;
  double seconds = 30;
  std::string file;
  std::string v;
  while (args.more()) {
    if (args.value("--kind", &v)) {
      for (int i = 0; i < 5; ++i) {
        kind = v == kKinds[i] ? i : kind;
      }
    } else if (args.value("--live", &v)) {
      live = static_cast<int>(parse_number(v));
    } else if (args.value("--seconds", &v)) {
      seconds = parse_number(v);
    } else if (args.value("--state", &file)) {
    } else if (args.value("--ignore", &v)) {
      for (const int number : parse_signals(v)) {
        signal(number, SIG_IGN);
      }
    } else {
      usage(args.next());
    }
  }
  if (kind < 0 || live < 2 || live > kSlots || seconds > 30) {
    usage("--kind, --live 2..1024 or --seconds up to 30");
  }
  state_fd = file.empty() ? memfd_create("fork_bomb", 0)
                          : open(file.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0666);
  if (state_fd < 0 || ftruncate(state_fd, sizeof(State)) != 0) {
    fail("state");
  }
  map_state();
  state->live = live;
  state->kind = kind;
  state->end = seconds_now() + seconds;
  state->born = 1;
  state->slot[0] = getpid();
  signal(SIGCHLD, SIG_IGN);  // nobody waits: ended children vanish by themselves
  limit_life(static_cast<unsigned>(seconds) + 2);
  // Chains run at full speed all the time: a tenth as many.
  const int enough = kind == kChain ? (live + 9) / 10 : live / 2;
  bool ready = false;
  while (seconds_now() < state->end) {
    int population = 0;
    for (int i = 0; i < live; ++i) {
      population += state->slot[i] > 0 ? 1 : 0;
    }
    if (!ready && population >= enough) {
      ready = true;
      say("ready\n");
    }
    // Chains keep their number by themselves; it takes two slots to go on.
    if (kind != kChain || population < enough) {
      spawn();
    }
    if (ready) {
      sleep_for(0.002);
    }
  }
  return 0;
}
