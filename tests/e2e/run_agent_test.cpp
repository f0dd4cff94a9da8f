// SPDX-License-Identifier: Apache-2.0
// procguard run over an agent: the guard is the agent's and outlives run, and where there is none,
// or it is of no use, run does the work itself.
#include "tests/e2e/run_agent.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>

namespace procguard::test {
namespace {

struct Row {
  const char* description;
  Strings options;
  Strings command;
  int status;
  const char* resource;
};

TEST_F(RunAgent, EndsAsItDoesAlone) {
  start_agent();
  const Row rows[] = {
      {"a status", {"-t", "20s"}, {"sh", "-c", "exit 7"}, 7, ""},
      {"not found", {"-t", "20s"}, {"/nonexistent/x"}, 127, ""},
      {"another's signal", {"-t", "20s"}, {"sh", "-c", "kill -USR1 $$"}, 128 + SIGUSR1, ""},
      {"timeout", {"-t", "300ms"}, {"sleep", "20"}, 124, "timeout"},
      {"the last KILL ends all",
       {"-t", "300ms", "-s", "KILL"},
       {"sh", "-c", "sleep 30 & sleep 30 & wait"},
       137,
       "timeout"},
      {"cpu", {"--cpu", "300ms"}, {program("spin"), "--seconds", "20"}, 124, "cpu"},
      {"memory",
       {"-m", "64M", "-s", "KILL"},
       {program("touch"), "256M", "--hold", "20"},
       137,
       "memory"},
      {"process alone",
       {"-t", "300ms", "--scope", "process", "-s", "TERM"},
       {"sleep", "20"},
       124,
       "timeout"},
      {"a dry run", {"-t", "100ms", "--dry-run"}, {"sleep", "0.5"}, 0, "timeout"},
      {"members that outlive it",
       {"-t", "20s", "--leftovers", "wait"},
       {"sh", "-c", "sleep 1 & exit 3"},
       3,
       ""},
  };
  for (const Row& row : rows) {
    Strings options = row.options;
    options.insert(options.end(), {"--source", "agent"});
    const Guarded result = guarded(options, row.command);
    EXPECT_EQ(result.status(), row.status) << row.description << "\n" << result.describe();
    EXPECT_EQ(result.resource(), row.resource) << row.description << "\n" << result.describe();
    ASSERT_TRUE(result.report.is_object()) << row.description;
    EXPECT_EQ(result.report["source"], "agent") << row.description;
    EXPECT_TRUE(result.survivors.empty()) << row.description << "\n" << result.describe();
  }
}

TEST_F(RunAgent, TellsWhatTheAgentDid) {
  start_agent();
  const Guarded result = guarded({"-t", "700ms"}, {"sleep", "20"});
  EXPECT_EQ(result.signals(), Strings{"INT"}) << result.describe();
  EXPECT_EQ(result.results(), Strings{"sent"}) << result.describe();
  EXPECT_EQ(result.report["result"]["killed_by"], "guard") << result.describe();
  EXPECT_EQ(result.report["threads"][0]["comm"], "sleep") << result.describe();
  EXPECT_EQ(result.report["diagnosis"]["verdict"], "sleeping") << result.describe();
  EXPECT_GT(result.usage("peak_rss_bytes"), 0) << result.describe();
  EXPECT_NE(result.outcome.err.find("timeout of 700ms reached"), std::string::npos)
      << result.describe();
}

TEST_F(RunAgent, ACommandThatEndsAtOnceIsNoError) {
  start_agent();
  for (int i = 0; i < 50; ++i) {
    const Outcome outcome = run({.argv = {procguard_binary(), "run", "-t", "20s", "--", "true"},
                                 .env = {"PROCGUARD_SOCKET=" + place_.socket}});
    ASSERT_EQ(outcome.status(), 0) << outcome.describe();
    ASSERT_EQ(outcome.err, "") << outcome.describe();
  }
}

TEST_F(RunAgent, TheCommandKnowsItsGuard) {
  start_agent();
  for (const Strings& more : {Strings{}, Strings{"--name", "job"}}) {
    Strings options = {"-t", "20s"};
    options.insert(options.end(), more.begin(), more.end());
    const Guarded told = guarded(options, {"sh", "-c", "echo $PROCGUARD_GUARD $PROCGUARD_SOCKET"});
    EXPECT_EQ(told.outcome.out, "g" + std::to_string(told.report["guard"]["id"].get<int>()) + " " +
                                    place_.socket + "\n")
        << "a name may be many guards'\n"
        << told.describe();
  }
  Command elsewhere;
  elsewhere.cwd = place_.directory;
  const Guarded progress =
      run_guarded({"-t", "20s", "--socket", "agent.sock"},
                  {"sh", "-c", "cd / && " + procguard_binary() + " progress"}, elsewhere);
  EXPECT_EQ(progress.status(), 0) << progress.describe();
  GuardedRun named(
      {"-t", "1h", "--name", "job-7", "--label", "k8s.io/team=a b", "--failsafe", "kernel"},
      {program("sleeper"), "--exit-on", "TERM:4"}, base());
  ASSERT_TRUE(named.process().wait_for_output("ready"));
  EXPECT_NE(shown("job-7").find("k8s.io/team=a b"), std::string::npos) << shown("job-7");
  named.process().send(SIGTERM);
  EXPECT_EQ(named.wait().status(), 4);
}

TEST_F(RunAgent, TheGuardOutlivesRun) {
  start_agent();
  GuardedRun run({"-t", "2s", "-s", "KILL"}, {program("sleeper")}, base());
  ASSERT_TRUE(run.process().wait_for_output("ready"));
  const std::string id = run.process().id();
  run.process().send(SIGKILL);
  ASSERT_TRUE(wait_until([&] { return process_state(run.process().pid()) == 'Z'; }));
  EXPECT_FALSE(survivors(id).empty());
  EXPECT_TRUE(wait_until([&] { return survivors(id).empty(); })) << "the agent has ended it";
  run.wait();
}

TEST_F(RunAgent, ABusyAgentIsDoneWithout) {
  write_text(place_.directory + "/config.toml", "[agent]\nmax_guards = 1\n");
  start_agent({"--config", place_.directory + "/config.toml"});
  GuardedRun first({"-t", "1h"}, {program("sleeper"), "--exit-on", "TERM:4"}, base());
  ASSERT_TRUE(first.process().wait_for_output("ready"));
  const Guarded second = guarded({"-t", "300ms"}, {"sleep", "20"});
  EXPECT_EQ(second.status(), 124) << second.describe();
  EXPECT_EQ(second.report["source"], "bpf") << second.describe();
  EXPECT_NE(second.outcome.err.find("without the agent"), std::string::npos) << second.describe();
  EXPECT_EQ(guarded({"-t", "1s", "--source", "agent"}, {"true"}).status(), 125);
  EXPECT_EQ(guarded({"-t", "1s", "--failsafe", "kernel"}, {"true"}).status(), 125);
  first.process().send(SIGTERM);
  EXPECT_EQ(first.wait().status(), 4);
}

TEST_F(RunAgent, ItsOwnEngineWhereThatIsAskedFor) {
  start_agent();
  const std::pair<Strings, const char*> rows[] = {{{"--no-agent"}, "bpf"},
                                                  {{"--source", "bpf"}, "bpf"},
                                                  {{"--source", "procfs"}, "procfs"},
                                                  {{"--leftovers", "kill"}, "bpf"}};
  for (const auto& [more, source] : rows) {
    Strings options = {"-t", "20s"};
    options.insert(options.end(), more.begin(), more.end());
    const Guarded result = guarded(options, {"true"});
    EXPECT_EQ(result.report["source"], source) << more[0] << "\n" << result.describe();
    EXPECT_EQ(result.outcome.err, "") << more[0];
  }
}

TEST_F(RunAgent, WithoutAnAgentNothingIsSaid) {
  const Guarded result = guarded({"-t", "20s"}, {"true"});
  EXPECT_EQ(result.report["source"], "bpf") << result.describe();
  EXPECT_EQ(result.outcome.err, "");
  for (const Strings& option : {Strings{"--source", "agent"}, Strings{"--failsafe", "kernel"}}) {
    const Guarded refused = guarded({"-t", "20s", option[0], option[1]}, {"true"});
    EXPECT_EQ(refused.status(), 125) << refused.describe();
    EXPECT_NE(refused.outcome.err.find(place_.socket), std::string::npos) << refused.describe();
    EXPECT_EQ(line_count(refused.outcome.err), 1) << refused.describe();
  }
}

TEST_F(RunAgent, WhoMayNotAskGoesOnAlone) {
  start_agent();
  TempDir open;
  std::filesystem::copy_file(procguard_binary(), open / "procguard");
  ::chmod(place_.directory.c_str(), 0755);
  const std::pair<Strings, bool> rows[] = {{{"-t", "20s"}, false}, {{"-t", "20s", "-v"}, true}};
  for (const auto& [options, said] : rows) {
    Command command = base();
    command.argv = {
        "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--", open / "procguard",
        "run"};
    command.argv.insert(command.argv.end(), options.begin(), options.end());
    command.argv.insert(command.argv.end(), {"--", "sh", "-c", "exit 6"});
    const Outcome outcome = run(command);
    EXPECT_EQ(outcome.status(), 6) << outcome.describe();
    EXPECT_EQ(outcome.err.find("without the agent") != std::string::npos, said)
        << outcome.describe();
  }
}

TEST_F(RunAgent, ACgroupIsGuardedUntilItIsEmpty) {
  start_agent();
  TempCgroup cgroup;
  const Guarded waited = guarded({"-t", "20s", "--cgroup", cgroup.path(), "--leftovers", "wait"},
                                 {"sh", "-c", "sleep 1 & exit 3"});
  EXPECT_EQ(waited.status(), 3) << waited.describe();
  EXPECT_GT(waited.wall_seconds(), 0.9) << waited.describe();
  const Guarded tripped = guarded({"-t", "500ms", "--cgroup", cgroup.path(), "-s", "KILL"},
                                  {"sh", "-c", "sleep 30 & sleep 30 & wait"});
  EXPECT_EQ(tripped.status(), 137) << tripped.describe();
  EXPECT_EQ(tripped.report["source"], "agent") << tripped.describe();
  EXPECT_TRUE(cgroup.members().empty()) << tripped.describe();
}

TEST_F(RunAgent, ProgressByNotifyReachesTheAgent) {
  start_agent();
  const Guarded result =
      guarded({"-t", "1s", "-s", "KILL"},
              {"sh", "-c", program("notifier") + " --every 0.1 --times 30; exit 7"});
  EXPECT_EQ(result.status(), 7) << result.describe();
  EXPECT_EQ(result.report["source"], "agent") << result.describe();
}

// Members are who is heard, whatever user they have become and whoever is their parent by now.
TEST_F(RunAgent, ProgressOfMembersAndNobodyElse) {
  start_agent();
  TempDir open;
  const std::string notifier = open / "notifier";
  std::filesystem::copy_file(program("notifier"), notifier);
  const std::string tells = notifier + " --every 0.1 --times 30";
  const std::string as_nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups ";
  for (const std::string& commands :
       {as_nobody + tells + "; exit 7",
        "sh -c '" + as_nobody + "setsid " + tells + " & exit 0'; sleep 3; exit 7"}) {
    const Guarded result = guarded({"-t", "1s", "-s", "KILL"}, {"sh", "-c", commands});
    EXPECT_EQ(result.status(), 7) << commands << "\n" << result.describe();
    EXPECT_EQ(result.report["source"], "agent") << result.describe();
  }
  GuardedRun run({"-t", "1s", "-s", "KILL"}, {"sh", "-c", "echo $NOTIFY_SOCKET; sleep 20"}, base());
  ASSERT_TRUE(run.process().wait_for_output("\n"));
  const std::string& out = run.process().output();
  Subprocess stranger({.argv = {notifier, "--every", "0.1", "--times", "100"},
                       .env = {"NOTIFY_SOCKET=" + out.substr(0, out.find('\n'))}});
  EXPECT_EQ(run.wait().status(), 137) << "of our user, but no member";
}

// The agent's numbers are the host's: in another pid namespace the command's alone is known.
TEST_F(RunAgent, AKillOfMembersWithoutANumberHereIsAKill) {
  start_agent();
  Command base = this->base();
  base.argv = {"unshare", "--pid", "--fork", "--mount-proc", "--kill-child"};
  const Guarded result =
      run_guarded({"-t", "300ms", "--escalate", "TERM:300ms,KILL", "--leftovers", "wait"},
                  {"sh", "-c", program("sleeper") + " --ignore TERM & wait"}, base);
  EXPECT_EQ(result.status(), 137) << result.describe();
  EXPECT_EQ(result.signals(), (Strings{"TERM", "KILL"})) << result.describe();
}

}  // namespace
}  // namespace procguard::test
