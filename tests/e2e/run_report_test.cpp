// SPDX-License-Identifier: Apache-2.0
// The report of procguard run: its keys stay, and it tells spinning from starved from stuck.
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>

#include "tests/e2e/guarded_run.h"

namespace procguard::test {
namespace {

void expect_keys(const Json& object, const Strings& keys, const std::string& where) {
  for (const std::string& key : keys) {
    EXPECT_TRUE(object.is_object() && object.contains(key)) << where << "." << key << " is missing";
  }
}

void expect_all_keys(const Json& report) {
  expect_keys(report,
              {"schema", "guard", "target", "source", "membership", "result", "trip", "steps",
               "usage", "threads"},
              "report");
  expect_keys(report["guard"], {"id", "name"}, "guard");
  expect_keys(report["target"], {"pid", "start_time_ns", "comm"}, "target");
  expect_keys(report["result"], {"status", "exit_code", "signal", "killed_by"}, "result");
  expect_keys(report["usage"],
              {"wall_ns", "cpu_ns", "runnable_wait_ns", "blocked_ns", "peak_rss_bytes",
               "peak_rss_plain_sum_bytes", "voluntary_switches", "involuntary_switches"},
              "usage");
}

double blocked(const Json& usage) {
  double sum = 0;
  for (const auto& [state, ns] : usage["blocked_ns"].items()) {
    sum += ns.get<double>();
  }
  return sum;
}

class RunReport : public testing::TestWithParam<const char*> {};

TEST_P(RunReport, HasItsKeysWithAndWithoutATrip) {
  const Guarded calm =
      run_guarded({"-t", "20s", "--name", "calm", "--source", GetParam()}, {"sh", "-c", "exit 7"});
  expect_all_keys(calm.report);
  EXPECT_EQ(calm.report["source"], GetParam());
  EXPECT_EQ(calm.report["guard"]["name"], "calm");
  EXPECT_EQ(calm.report["result"]["exit_code"], 7);
  EXPECT_TRUE(calm.report["result"]["signal"].is_null());
  EXPECT_TRUE(calm.report["result"]["killed_by"].is_null());
  EXPECT_TRUE(calm.report["trip"].is_null());
  EXPECT_EQ(calm.report["steps"], Json::array());

  const Guarded tripped = run_guarded({"-t", "300ms", "--source", GetParam()}, {"sleep", "20"});
  expect_all_keys(tripped.report);
  expect_keys(tripped.report["trip"], {"resource", "limit", "observed", "unit"}, "trip");
  expect_keys(tripped.report["steps"][0],
              {"step", "action", "signal", "at_ns", "late_ns", "by", "result"}, "steps[0]");
  EXPECT_TRUE(tripped.report["result"]["exit_code"].is_null());
  EXPECT_EQ(tripped.report["result"]["signal"], "SIGINT");
  EXPECT_EQ(tripped.report["result"]["killed_by"], "guard");
  EXPECT_EQ(tripped.report["target"]["comm"], "sleep");
  EXPECT_EQ(tripped.report["threads"][0]["comm"], "sleep") << tripped.describe();
}

TEST_P(RunReport, ASpinnerSpins) {
  // Ahead of all others that want the CPU.
  const Guarded guarded = run_guarded({"-t", "700ms", "--source", GetParam()},
                                      {"chrt", "--fifo", "1", program("spin"), "--seconds", "5"});
  const Json& diagnosis = guarded.report["diagnosis"];
  EXPECT_EQ(diagnosis["verdict"], "spinning") << guarded.describe();
  EXPECT_GT(diagnosis["cpu_share"], diagnosis["runnable_wait_share"]) << guarded.describe();
  EXPECT_GT(diagnosis["cpu_share"], diagnosis["blocked_share"]) << guarded.describe();
  EXPECT_GT(guarded.usage("cpu_ns"), 0.35e9) << guarded.describe();
}

TEST_P(RunReport, WhoGetsNoCpuIsStarved) {
  // Four that are not guarded share its CPU, each a session of its own: the scheduler may share
  // out by session.
  const Command rival = {.argv = {"taskset", "-c", "0", program("spin")}};
  Subprocess rivals[] = {Subprocess(rival), Subprocess(rival), Subprocess(rival),
                         Subprocess(rival)};
  const Guarded guarded = run_guarded({"-t", "1s", "--source", GetParam()},
                                      {"taskset", "-c", "0", program("spin"), "--seconds", "20"});
  const Json& diagnosis = guarded.report["diagnosis"];
  EXPECT_EQ(diagnosis["verdict"], "starved of CPU") << guarded.describe();
  EXPECT_GT(diagnosis["runnable_wait_share"], diagnosis["cpu_share"]) << guarded.describe();
  EXPECT_GT(diagnosis["runnable_wait_share"], diagnosis["blocked_share"]) << guarded.describe();
  if (GetParam() == std::string("bpf")) {
    EXPECT_GT(guarded.usage("runnable_wait_ns"), guarded.usage("cpu_ns")) << guarded.describe();
  }
}

TEST_P(RunReport, WhoWaitsInACallIsStuckThere) {
  // Reads a pipe that nobody writes to.
  Command held;
  held.hold_input = true;
  const Guarded guarded = run_guarded({"-t", "700ms", "--source", GetParam()}, {"cat"}, held);
  const Json& usage = guarded.report["usage"];
  EXPECT_LT(usage["cpu_ns"], 100'000'000) << guarded.describe();
  EXPECT_EQ(guarded.report["diagnosis"]["verdict"], "stuck in a syscall") << guarded.describe();
  EXPECT_EQ(guarded.report["threads"][0]["syscall"], "read") << guarded.describe();
}

TEST_P(RunReport, WhoSleepsSleeps) {
  const Guarded guarded = run_guarded({"-t", "700ms", "--source", GetParam()}, {"sleep", "20"});
  EXPECT_EQ(guarded.report["diagnosis"]["verdict"], "sleeping") << guarded.describe();
}

INSTANTIATE_TEST_SUITE_P(Source, RunReport, testing::Values("bpf", "procfs"),
                         [](const auto& row) { return std::string(row.param); });

TEST(RunReportTimes, AddUpToTheWall) {
  const Guarded guarded = run_guarded({"-t", "1s"}, {"sleep", "20"});
  const Json& usage = guarded.report["usage"];
  const double all =
      usage["cpu_ns"].get<double>() + usage["runnable_wait_ns"].get<double>() + blocked(usage);
  EXPECT_NEAR(all / 1e9, usage["wall_ns"].get<double>() / 1e9, 0.1) << guarded.describe();
  EXPECT_GT(usage["voluntary_switches"], 0) << guarded.describe();
}

// One of two processes grows; its thread has the memory in its account, nobody else has.
class RunReportThreads : public testing::TestWithParam<const char*> {};

TEST_P(RunReportThreads, NameTheOneThatGrew) {
  const std::string script =
      program("sleeper") + " & exec " + program("touch") + " 128M --hold 20 " + GetParam();
  const Guarded guarded =
      run_guarded({"-m", "64M", "--escalate", "INT:200ms,KILL"}, {"bash", "-c", script});
  ASSERT_TRUE(guarded.tripped()) << guarded.describe();
  double most = 0;
  std::string who;
  for (const Json& thread : guarded.report["threads"]) {
    const double grown = thread["grown_bytes"]["anon"].get<double>();
    if (grown > most) {
      most = grown;
      who = thread["comm"];
    }
  }
  EXPECT_EQ(who, "touch") << guarded.describe();
  EXPECT_GT(most / kMiB, 50) << guarded.describe();
  EXPECT_EQ(guarded.report["trip"]["comm"], "touch") << guarded.describe();
}

// Whether it is still alive when user space comes to look, or the kernel's step has ended it.
INSTANTIATE_TEST_SUITE_P(All, RunReportThreads, testing::Values("--ignore INT", ""),
                         [](const auto& row) {
                           return std::string(*row.param != '\0' ? "Surviving" : "Ended");
                         });

TEST(RunReportSignal, FromOutsideIsNotTheGuards) {
  const Guarded other = run_guarded({"-t", "20s"}, {"sh", "-c", "kill -KILL $$"});
  EXPECT_EQ(other.report["result"]["signal"], "SIGKILL");
  EXPECT_EQ(other.report["result"]["killed_by"], "other");
  GuardedRun run({"-t", "20s"}, {program("sleeper")});
  ASSERT_TRUE(run.process().wait_for_output("ready"));
  run.process().send(SIGTERM);
  const Guarded forwarded = run.wait();
  EXPECT_EQ(forwarded.status(), 143) << forwarded.describe();
  EXPECT_EQ(forwarded.report["result"]["killed_by"], "forwarded");
  EXPECT_TRUE(forwarded.report["trip"].is_null());
}

TEST(RunReportFile, IsReplacedAndWrittenWhole) {
  TempDir dir;
  write_text(dir / "r.json", std::string(100000, 'x'));
  const Outcome outcome = run(
      {.argv = {procguard_binary(), "run", "-t", "9s", "--report", dir / "r.json", "--", "true"}});
  EXPECT_EQ(outcome.status(), 0) << outcome.describe();
  EXPECT_TRUE(Json::parse(read_text(dir / "r.json"), nullptr, false).is_object());
  const auto count = std::distance(std::filesystem::directory_iterator(dir.path()), {});
  EXPECT_EQ(count, 1) << "no temporary file is left";
}

TEST(RunReportFile, MayBeADeviceOrAPipe) {
  const std::string run_it = procguard_binary() + " run -t 9s --report ";
  const Outcome to_null = run({.argv = {"sh", "-c", run_it + "/dev/null -- true"}});
  EXPECT_EQ(to_null.status(), 0) << to_null.describe();
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/null"));
  const Outcome to_stdout = run({.argv = {"sh", "-c", run_it + "/dev/stdout -- true | cat"}});
  EXPECT_TRUE(Json::parse(to_stdout.out, nullptr, false).is_object()) << to_stdout.describe();
}

TEST(RunReportFile, OfACommandThatCannotBeExecutedSaysSo) {
  const Guarded guarded = run_guarded({"-t", "9s"}, {"/nonexistent/command"});
  expect_all_keys(guarded.report);
  EXPECT_TRUE(guarded.report["result"]["exit_code"].is_null()) << guarded.describe();
}

TEST(RunReportFile, HostileNamesAreStillJson) {
  // comm is what the process likes to be called: quotes, a line end, bytes that are no text.
  const std::string script = "printf 'a\"\\n\\377b)(' > /proc/self/task/$$/comm; sleep 20";
  const Guarded guarded = run_guarded({"-t", "500ms"}, {"bash", "-c", script + "; :"});
  EXPECT_EQ(guarded.status(), 124) << guarded.describe();
  expect_all_keys(guarded.report);
  EXPECT_EQ(line_count(guarded.outcome.err), 1) << guarded.describe();
  const std::string& err = guarded.outcome.err;
  EXPECT_TRUE(std::all_of(err.begin(), err.end() - 1, [](char c) { return c >= ' ' && c <= '~'; }))
      << guarded.describe();
}

}  // namespace
}  // namespace procguard::test
