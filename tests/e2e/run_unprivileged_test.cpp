// SPDX-License-Identifier: Apache-2.0
// procguard run without privileges and across users: what works, what says that it does not.
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/e2e/guarded_run.h"

namespace procguard::test {
namespace {

namespace fs = std::filesystem;

// As user nobody with no capability left. The programs are copied to where nobody can reach them.
class RunUnprivileged : public testing::Test {
 protected:
  RunUnprivileged() {
    for (const char* name : {"sleeper", "touch", "spin", "setsid_tree"}) {
      fs::copy_file(program(name), dir_ / name);
    }
    fs::copy_file(procguard_binary(), dir_ / "procguard");
  }

  Guarded run_as_nobody(const Strings& options, const Strings& command) {
    Command base;
    base.argv = {"setpriv",
                 "--reuid=65534",
                 "--regid=65534",
                 "--clear-groups",
                 "--bounding-set=-all",
                 "--inh-caps=-all",
                 "--"};
    Strings all = {dir_ / "procguard", "run"};
    all.insert(all.end(), options.begin(), options.end());
    all.insert(all.end(), {"--report", dir_ / "report.json", "--"});
    all.push_back(command[0][0] == '@' ? dir_ / command[0].substr(1) : command[0]);
    all.insert(all.end(), command.begin() + 1, command.end());
    base.argv.insert(base.argv.end(), all.begin(), all.end());
    Subprocess process(base);
    Guarded guarded;
    guarded.outcome = process.wait();
    guarded.survivors = survivors(process.id());
    const Json report = Json::parse(read_text(dir_ / "report.json"), nullptr, false);
    guarded.report = report.is_discarded() ? Json() : report;
    return guarded;
  }

  TempDir dir_;
};

TEST_F(RunUnprivileged, TimeoutsWork) {
  const Guarded guarded = run_as_nobody({"-t", "300ms"}, {"sleep", "20"});
  EXPECT_EQ(guarded.status(), 124) << guarded.describe();
  EXPECT_EQ(guarded.report["source"], "procfs") << guarded.describe();
}

TEST_F(RunUnprivileged, SourceBpfFailsAndNamesTheCapability) {
  const Guarded guarded =
      run_as_nobody({"-t", "300ms", "--source", "bpf"}, {"sh", "-c", "echo started"});
  EXPECT_EQ(guarded.status(), 125) << guarded.describe();
  EXPECT_NE(guarded.outcome.err.find("CAP_BPF"), std::string::npos) << guarded.describe();
  EXPECT_EQ(guarded.outcome.out, "") << "the command was not started";
  EXPECT_EQ(line_count(guarded.outcome.err), 1) << guarded.describe();
}

TEST_F(RunUnprivileged, MemoryGoesOnWithProcfsAndSaysSo) {
  const Guarded guarded = run_as_nobody({"-m", "64M"}, {"@touch", "128M", "--hold", "30"});
  EXPECT_EQ(guarded.status(), 124) << guarded.describe();
  EXPECT_EQ(guarded.resource(), "memory") << guarded.describe();
  EXPECT_EQ(guarded.report["source"], "procfs") << guarded.describe();
  EXPECT_NE(guarded.outcome.err.find("/proc"), std::string::npos) << guarded.describe();
  EXPECT_EQ(line_count(guarded.outcome.err), 2) << "one for the source, one for the trip\n"
                                                << guarded.describe();
}

TEST_F(RunUnprivileged, CpuWorks) {
  const Guarded guarded = run_as_nobody({"--cpu", "300ms"}, {"@spin", "--threads", "2"});
  EXPECT_EQ(guarded.status(), 124) << guarded.describe();
  EXPECT_EQ(guarded.resource(), "cpu") << guarded.describe();
}

TEST_F(RunUnprivileged, ASetsidTreeLeavesNoSurvivor) {
  const Guarded guarded =
      run_as_nobody({"-t", "1s", "--kill", "--step-grace", "100ms"}, {"@setsid_tree"});
  EXPECT_NE(guarded.outcome.out.find("ready"), std::string::npos) << guarded.describe();
  EXPECT_TRUE(guarded.status() == 124 || guarded.status() == 137) << guarded.describe();
  EXPECT_TRUE(guarded.survivors.empty()) << guarded.describe();
}

TEST_F(RunUnprivileged, ASetuidProgramIsStillGuarded) {
  // Its real user is still nobody's: kill(2) allows it.
  fs::permissions(dir_ / "sleeper", fs::perms::set_uid, fs::perm_options::add);
  const Guarded guarded = run_as_nobody({"-t", "500ms", "--kill", "--step-grace", "100ms"},
                                        {"@sleeper", "--ignore", "INT,TERM", "--seconds", "15"});
  EXPECT_NE(guarded.outcome.out.find("ready"), std::string::npos) << guarded.describe();
  EXPECT_EQ(guarded.status(), 137) << guarded.describe();
}

// The other way round: a privileged procguard, a command that gives its privileges up.
struct Escape {
  const char* name;
  Strings prefix;
};

class RunAcrossUsers : public testing::TestWithParam<Escape> {};

TEST_P(RunAcrossUsers, TheCommandIsStillGuarded) {
  TempDir dir;
  fs::copy_file(program("touch"), dir / "touch");
  Strings sleep = GetParam().prefix;
  sleep.insert(sleep.end(), {"sleep", "20"});
  const Guarded timed = run_guarded({"-t", "500ms"}, sleep);
  EXPECT_EQ(timed.status(), 124) << timed.describe();
  Strings grow = GetParam().prefix;
  grow.insert(grow.end(), {dir / "touch", "2G"});
  const Guarded grown = run_guarded({"-m", "64M"}, grow);
  EXPECT_EQ(grown.status(), 124) << grown.describe();
  EXPECT_LE(grown.usage("peak_rss_bytes"), 64 * kMiB + 512 * 1024) << grown.describe();
}

INSTANTIATE_TEST_SUITE_P(
    All, RunAcrossUsers,
    testing::Values(
        Escape{"OtherUser", {"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"}},
        Escape{"NoNewPrivileges", {"setpriv", "--no-new-privs", "--bounding-set=-all", "--"}},
        Escape{"OwnUserNamespace", {"unshare", "--user", "--map-root-user", "--"}}),
    [](const auto& row) { return std::string(row.param.name); });

TEST(RunNamespaces, TheirInitIsEndedByKillAlone) {
  // The init of a pid namespace gets no signal that it has no handler for.
  const Strings init = {"unshare", "--pid",  "--fork", "--mount-proc", "--", program("touch"),
                        "128M",    "--hold", "30"};
  const Guarded guarded = run_guarded({"-m", "64M", "--kill", "--step-grace", "200ms"}, init);
  EXPECT_EQ(guarded.status(), 137) << guarded.describe();
  EXPECT_EQ(guarded.resource(), "memory") << guarded.describe();
  EXPECT_TRUE(guarded.survivors.empty()) << guarded.describe();
}

TEST(RunDescriptors, ACommandThatClosesThemAllIsStillGuarded) {
  const Guarded guarded = run_guarded({"-t", "700ms", "--kill", "--step-grace", "100ms"},
                                      {program("sleeper"), "--close-fds", "--ignore", "INT,TERM"});
  EXPECT_NE(guarded.outcome.out.find("ready"), std::string::npos) << guarded.describe();
  EXPECT_EQ(guarded.status(), 137) << guarded.describe();
}

}  // namespace
}  // namespace procguard::test
