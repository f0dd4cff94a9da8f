// SPDX-License-Identifier: Apache-2.0
// What procguard's programs cost a hook, above an empty program on the same hook at the same
// events, by the kernel's own counting (BPF_STATS_RUN_TIME). Best of 9, of each. A third program
// counts how many events were the workload's own: the other ones are taken out of the guarded
// figure.
#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <string>
#include <thread>

#include "bench/bare.skel.h"
#include "sys/monotonic_clock.h"
#include "tests/bench/bare.h"
#include "tests/bench/concepts.h"
#include "tests/bench/guarding.h"
#include "tests/bench/own_programs.h"
#include "tests/support/child.h"

namespace procguard::bench {
namespace {

constexpr int kBestOf = 9;
constexpr double kEnoughEvents = 1000;
constexpr double kUnknown = -1;
constexpr core::Ns kPatience = 5 * core::kSecond;
constexpr std::uint64_t kFarAway = 1ULL << 50;

// --- the workloads, for as long as they live ----------------------------------------------------

void grow_and_shrink() {
  constexpr std::size_t kBytes = 8U << 20;
  for (;;) {
    void* at = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ::madvise(at, kBytes, MADV_NOHUGEPAGE);
    for (std::size_t page = 0; page < kBytes; page += 4096) {
      static_cast<volatile char*>(at)[page] = 1;
    }
    ::munmap(at, kBytes);
  }
}

void* pass_bytes(int from, int to) {
  char byte = 0;
  while (::read(from, &byte, 1) == 1 && ::write(to, &byte, 1) == 1) {
  }
  return nullptr;
}

// Two threads on one CPU that wake each other: each switch is from a guarded thread to a guarded
// one, the most that the program can have to do.
void switch_threads() {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(0, &one);
  ::sched_setaffinity(0, sizeof(one), &one);
  int there[2];
  int back[2];
  if (::pipe(there) != 0 || ::pipe(back) != 0 || ::write(there[1], "x", 1) != 1) {
    return;
  }
  std::thread other([&] { pass_bytes(there[0], back[1]); });
  pass_bytes(back[0], there[1]);
  other.join();
}

// --- counting -----------------------------------------------------------------------------------

struct Hook {
  const char* name;
  const char* ours;  // the program's name
  void (*workload)();
  bpf_program* empty;
  bpf_program* census;
  const char* held_by;
};

struct Cost {
  double ours_ns = kUnknown;   // a run of our program
  double empty_ns = kUnknown;  // a run of the empty one

  double above() const { return ours_ns - empty_ns; }
};

struct Counted {
  ProgramInfo ours;
  ProgramInfo empty;
  double own_events = 0;
};

// Weighs our program on one hook while the workload runs.
class Scale {
 public:
  Scale(Bare& bare, const Hook& hook, int ours_fd, core::Ns length)
      : bare_(bare), hook_(hook), ours_fd_(ours_fd), length_(length) {}

  // The workload is `pid`. A run of our program at the events of others takes `others_ns`; if that
  // is unknown, all events count. The best of each program's means.
  Result<Cost> best(pid_t pid, double others_ns);

 private:
  Result<Counted> look();
  Result<Cost> once(double others_ns);

  Bare& bare_;
  const Hook& hook_;
  int ours_fd_;
  core::Ns length_;
};

Result<Counted> Scale::look() {
  auto ours = program_info(ours_fd_);
  auto empty = program_info(bpf_program__fd(hook_.empty));
  if (!ours || !empty) {
    return ours ? empty.error() : ours.error();
  }
  return Counted{.ours = ours.value(),
                 .empty = empty.value(),
                 .own_events = static_cast<double>(
                     __atomic_load_n(&bare_->bss->census_events, __ATOMIC_SEQ_CST))};
}

Result<Cost> Scale::once(double others_ns) {
  const sys::MonotonicClock clock;
  const core::Ns deadline = clock.now() + kPatience;
  auto before = look();
  auto after = before;
  while (before && after && after->own_events - before->own_events < kEnoughEvents) {
    if (clock.now() > deadline) {
      return Error("the workload makes no events");
    }
    ::usleep(static_cast<useconds_t>(length_ / core::kMicrosecond));
    after = look();
  }
  if (!before || !after) {
    return before ? after.error() : before.error();
  }
  const auto runs = [](const ProgramInfo& from, const ProgramInfo& to) {
    return static_cast<double>(to.runs - from.runs);
  };
  const auto time = [](const ProgramInfo& from, const ProgramInfo& to) {
    return static_cast<double>(to.run_ns - from.run_ns);
  };
  const double events = runs(before->ours, after->ours);
  const double own = std::min(after->own_events - before->own_events, events);
  const double all_ns = time(before->ours, after->ours);
  return Cost{
      .ours_ns = others_ns < 0 ? all_ns / events : (all_ns - (events - own) * others_ns) / own,
      .empty_ns = time(before->empty, after->empty) / runs(before->empty, after->empty)};
}

Result<Cost> Scale::best(pid_t pid, double others_ns) {
  bare_->bss->census_tgid = static_cast<__u32>(pid);
  Cost best;
  for (int i = 0; i < kBestOf; i++) {
    auto cost = once(others_ns);
    if (!cost) {
      return cost;
    }
    best.ours_ns = i == 0 ? cost->ours_ns : std::min(best.ours_ns, cost->ours_ns);
    best.empty_ns = i == 0 ? cost->empty_ns : std::min(best.empty_ns, cost->empty_ns);
  }
  return best;
}

core::GuardSpec far_away() {
  core::GuardSpec spec;
  spec.name = "bench";
  spec.memory_bytes = kFarAway;
  spec.cpu_ns = kFarAway;
  spec.ladder = one_step(SIGTERM);
  return spec;
}

// Unguarded: the programs are attached, for a process that does nothing.
Result<void> add_rows(Rows& rows, Guarding& ours, Bare& bare, const Hook& hook, core::Ns length) {
  const test::Child idle([] { test::pause_forever(); });
  const test::Child worker(hook.workload);
  for (bpf_program* program : {hook.empty, hook.census}) {
    if (auto attached = bare.attach(program); !attached) {
      return attached;
    }
  }
  auto program = own_program(hook.ours);
  if (!program) {
    return program.error();
  }
  Scale scale(bare, hook, program->fd, length);
  if (auto armed = ours.arm(far_away(), idle.pid()); !armed) {
    return armed;
  }
  auto unguarded = scale.best(worker.pid(), kUnknown);
  ours.release();
  if (!unguarded) {
    return unguarded.error();
  }
  if (auto armed = ours.arm(far_away(), worker.pid()); !armed) {
    return armed;
  }
  auto guarded = scale.best(worker.pid(), unguarded->ours_ns);
  ours.release();
  bare.detach_all();
  if (!guarded) {
    return guarded.error();
  }
  const auto row = [&](const char* state, const Cost& cost, double bar) {
    return Row{.what = std::string(hook.name) + ", " + state,
               .ours = cost.above(),
               .reference = cost.empty_ns,
               .bar = Bar::at_most(bar),
               .note = "above the empty program",
               .held_by = hook.held_by};
  };
  rows.push_back(row("unguarded", unguarded.value(), 20));
  rows.push_back(row("guarded, away from a limit", guarded.value(), 200));
  return {};
}

}  // namespace

Result<Rows> measure_hooks(const Settings& settings) {
  auto ours = Guarding::create(true);
  auto bare = Bare::load();
  const sys::Fd counting(bpf_enable_stats(BPF_STATS_RUN_TIME));
  if (!ours || !bare || !counting) {
    return !ours ? ours.error() : !bare ? bare.error() : Error::system("BPF_ENABLE_STATS", errno);
  }
  const auto& programs = (*bare.value())->progs;
  const Hook hooks[] = {
      {"hook rss_stat", "pg_rss_stat", grow_and_shrink, programs.empty_rss_stat,
       programs.census_rss_stat,
       "two map look-ups, the exact sum over all CPUs, and the booking by atomic operations"},
      {"hook sched_switch", "pg_sched_switch", switch_threads, programs.empty_switch,
       programs.census_switch,
       "both threads are guarded: two look-ups, two clock readings, a probe read"},
      {"hook sched_stat_runtime", "pg_sched_stat_runtime", switch_threads, programs.empty_runtime,
       programs.census_runtime, "two look-ups, and an atomic sum a watch"},
  };
  Rows rows;
  const core::Ns length = (settings.quick ? 30 : 150) * core::kMillisecond;
  for (const Hook& hook : hooks) {
    if (auto added = add_rows(rows, *ours.value(), *bare.value(), hook, length); !added) {
      return added.error().in(hook.name);
    }
  }
  return rows;
}

}  // namespace procguard::bench
