// SPDX-License-Identifier: Apache-2.0
// Both guards, every ladder, block and decorator, main thread and worker: the steps as they arrive.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <ostream>
#include <tuple>

#include "tests/client/guarded.h"

namespace procguard::test {
namespace {

constexpr auto kTimeout = 30ms;
constexpr auto kGrace = 30ms;         // between steps
constexpr auto kGraceToKill = 100ms;  // for who must still tell what came before
constexpr Bytes kLimit = 1_MiB;

struct Ladder {
  InterruptType type;
  const char* name;
  int signals[3];  // 0: an exception
};
constexpr Ladder kLadders[] = {
    {InterruptType::exception, "exception", {0, 0, 0}},
    {InterruptType::signal, "signal", {SIGINT, SIGTERM, SIGTERM}},
    {InterruptType::exception_then_signal, "exception_then_signal", {0, SIGINT, SIGTERM}},
};

// A step that arrived.
struct Step {
  int signal = 0;  // 0: an exception
  pid_t tid = 0;
  Clock::time_point at{};
  std::uint64_t guard = 0;  // exceptions only
};

std::vector<Step> signals_so_far() {
  std::vector<Step> steps;
  for (const Caught& caught : SignalCatcher::caught()) {
    steps.push_back({caught.signal, caught.tid, caught.at, 0});
  }
  return steps;
}

struct Collected {
  std::vector<Step> steps;
  bool stalled = false;  // the thread did not run for longer than lies between two steps
};

// Works until `wanted` steps have arrived, and a while longer in case of more.
template <typename Exception>
Collected collect(Clock::time_point begin, std::size_t wanted) {
  std::vector<Step> thrown;
  auto until = begin + kPatience;
  auto looked = begin;
  bool complete = false;
  bool stalled = false;
  while (looked < until && !(stalled && looked > begin + 1s)) {
    const auto now = Clock::now();
    stalled = stalled || now > looked + kGrace;
    looked = now;
    try {
      checkpoint();
    } catch (const Exception& exception) {
      thrown.push_back({0, ::gettid(), Clock::now(), exception.guard()});
    }
    if (!complete && thrown.size() + SignalCatcher::count() >= wanted) {
      complete = true;
      until = Clock::now() + 3 * kGrace;
    }
    std::this_thread::sleep_for(200us);
  }
  const std::vector<Step> signals = signals_so_far();
  thrown.insert(thrown.end(), signals.begin(), signals.end());  // exceptions come first
  return {thrown, stalled};
}

struct Kind {
  const char* name;
  bool memory;
  bool decorator;
  bool worker;
};
constexpr Kind kKinds[] = {
    {"time_block_main", false, false, false},     {"time_block_worker", false, false, true},
    {"time_decorator_main", false, true, false},  {"time_decorator_worker", false, true, true},
    {"memory_block_main", true, false, false},    {"memory_block_worker", true, false, true},
    {"memory_decorator_main", true, true, false}, {"memory_decorator_worker", true, true, true},
};

void PrintTo(const Kind& kind, std::ostream* out) {
  *out << kind.name;
}
void PrintTo(const Ladder& ladder, std::ostream* out) {
  *out << ladder.name;
}

class ClientLadder : public ::testing::TestWithParam<std::tuple<Kind, Ladder>> {
 protected:
  struct Run {
    Collected result;
    std::uint64_t guard = 0;
    pid_t tid = 0;
    Clock::time_point begin;
  };

  static Run run_time(bool send_kill, std::chrono::nanoseconds grace) {
    const auto& [kind, ladder] = GetParam();
    const TimeGuard guard = time_guard({.timeout = kTimeout,
                                        .grace_period = grace,
                                        .interrupt_type = ladder.type,
                                        .send_kill = send_kill});
    return run<ExecutionTimeout>(
        guard, [](Clock::time_point begin) { return collect<ExecutionTimeout>(begin, 3); });
  }
  static Run run_memory(bool send_kill, std::chrono::nanoseconds grace) {
    const auto& [kind, ladder] = GetParam();
    const MemGuard guard = mem_guard({.max_memory = kLimit,
                                      .absolute = false,
                                      .secondary_grace_period = grace,
                                      .interrupt_type = ladder.type,
                                      .send_kill = send_kill,
                                      .check_interval = 5ms});
    return run<MemoryLimitExceeded>(guard, [](Clock::time_point begin) {
      Pages pages({4 * kLimit.count});
      pages.touch();
      return collect<MemoryLimitExceeded>(begin, 3);
    });
  }
  template <typename Exception, typename GuardType>
  static Run run(const GuardType& guard, const std::function<Collected(Clock::time_point)>& body) {
    const Kind& kind = std::get<0>(GetParam());
    Run run;
    const auto work = [&] {
      run.guard = guard.id();
      run.tid = ::gettid();
      run.begin = Clock::now();
      if (kind.decorator) {
        run.result = guard(body)(run.begin);
      } else {
        const Block block = guard.enter();
        run.result = body(run.begin);
      }
    };
    if (kind.worker) {
      std::thread(work).join();
    } else {
      work();
    }
    return run;
  }
  static Run run(bool send_kill, std::chrono::nanoseconds grace = kGrace) {
    return std::get<0>(GetParam()).memory ? run_memory(send_kill, grace)
                                          : run_time(send_kill, grace);
  }
  // Memory guards without grace begin at once.
  static std::chrono::nanoseconds first() {
    return std::get<0>(GetParam()).memory ? 0ms : kTimeout;
  }
  // In order, in the guarded thread, by the guard, and never early.
  static std::string fault(const Run& run, std::size_t wanted) {
    const Ladder& ladder = std::get<1>(GetParam());
    if (run.result.steps.size() != wanted) {
      return std::to_string(run.result.steps.size()) + " steps";
    }
    for (std::size_t i = 0; i < wanted; ++i) {
      const Step& step = run.result.steps[i];
      const std::string which = "step " + std::to_string(i) + ": ";
      if (step.signal != ladder.signals[i]) {
        return which + "signal " + std::to_string(step.signal);
      }
      if (step.tid != run.tid) {
        return which + "in another thread";
      }
      if (step.signal == 0 && step.guard != run.guard) {
        return which + "names another guard";
      }
      if (step.at < run.begin + first() + i * kGrace) {
        return which + "early";
      }
      if (step.at > run.begin + first() + i * kGrace + kSlack) {
        return which + "late";
      }
    }
    return "";
  }
  // Where the thread stood still two steps may arrive as one: that tells nothing.
  static std::string fault(bool send_kill) {
    for (int i = 0;; ++i) {
      const SignalCatcher catcher;
      const Run made = run(send_kill);
      const std::string found = fault(made, 3);
      if (found.empty() || !made.result.stalled || i == 50) {
        return found;
      }
    }
  }
};

INSTANTIATE_TEST_SUITE_P(Kinds, ClientLadder,
                         ::testing::Combine(::testing::ValuesIn(kKinds),
                                            ::testing::ValuesIn(kLadders)),
                         [](const auto& param) {
                           return std::string(std::get<0>(param.param).name) + "_" +
                                  std::get<1>(param.param).name;
                         });

TEST_P(ClientLadder, StepsArrive) {
  EXPECT_EQ(fault(false), "");
}

// SIGKILL ends the child; what came before it is told through the pipe.
TEST_P(ClientLadder, SendKill) {
  const Ladder& ladder = std::get<1>(GetParam());
  if (ladder.type == InterruptType::exception) {
    EXPECT_EQ(fault(true), "");  // there is no signal to be a SIGKILL
    return;
  }
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const auto begin = Clock::now();
  const int status = in_child([&] {
    const SignalCatcher catcher(ends[1]);
    run(true, kGraceToKill);
    REQUIRE_IN_CHILD(!"it lived on");
  });
  ::close(ends[1]);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << describe_status(status);
  EXPECT_GE(Clock::now(), begin + first() + 2 * kGraceToKill);
  std::vector<int> told(8);
  told.resize(static_cast<std::size_t>(::read(ends[0], told.data(), told.size() * sizeof(int))) /
              sizeof(int));
  EXPECT_EQ(told, ladder.type == InterruptType::signal ? std::vector<int>({SIGINT, SIGTERM})
                                                       : std::vector<int>({SIGINT}));
  ::close(ends[0]);
}

}  // namespace
}  // namespace procguard::test
