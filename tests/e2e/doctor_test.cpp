// SPDX-License-Identifier: Apache-2.0
// procguard doctor on this machine, with and without privileges.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/e2e/guarded_run.h"
#include "tests/support/subprocess.h"

namespace procguard::test {
namespace {

using nlohmann::json;

Outcome doctor(const std::vector<std::string>& args, bool unprivileged = false) {
  TempDir dir;  // nobody may not be able to reach the build
  Command command;
  command.argv = {procguard_binary(), "doctor"};
  command.argv.insert(command.argv.end(), args.begin(), args.end());
  if (unprivileged) {
    command.argv[0] = dir / "procguard";
    std::filesystem::copy_file(procguard_binary(), command.argv[0]);
    command.before_exec = [] {
      if (::setgid(65534) != 0 || ::setuid(65534) != 0) {
        ::_exit(99);
      }
    };
  }
  return run(command);
}

std::string status_of(const json& report, const std::string& id) {
  for (const auto& check : report.at("checks")) {
    if (check.at("id") == id) {
      return check.at("status");
    }
  }
  return "no such check";
}

bool root() {
  return ::getuid() == 0;
}

TEST(DoctorE2e, TextAndJsonAgree) {
  const Outcome text = doctor({});
  const Outcome with_json = doctor({"--json"});
  EXPECT_EQ(text.status(), with_json.status()) << text.describe();
  EXPECT_EQ(text.err, "") << text.describe();
  EXPECT_EQ(with_json.err, "") << with_json.describe();
  const json report = json::parse(with_json.out);
  EXPECT_EQ(report.at("ok"), with_json.status() == 0);
  for (const auto& check : report.at("checks")) {
    EXPECT_NE(text.out.find(check.at("id").get<std::string>()), std::string::npos) << text.out;
    EXPECT_EQ(check.at("fix").is_null(), check.at("status") == "ok") << check;
  }
  EXPECT_TRUE(text.status() == 0 || text.status() == 5) << text.describe();
}

TEST(DoctorE2e, AsRootAllThatIsNeededWorksHere) {
  if (!root()) {
    GTEST_SKIP() << "needs root";
  }
  const Outcome outcome = doctor({"--json"});
  ASSERT_EQ(outcome.status(), 0) << outcome.describe();
  const json report = json::parse(outcome.out);
  for (const char* id : {"btf", "capabilities", "programs", "mm_owner"}) {
    EXPECT_EQ(status_of(report, id), "ok") << report;
  }
}

TEST(DoctorE2e, WithoutPrivilegesItSaysWhichAreMissing) {
  if (!root()) {
    GTEST_SKIP() << "needs root to become nobody";
  }
  const Outcome outcome = doctor({"--json"}, true);
  ASSERT_EQ(outcome.status(), 5) << outcome.describe();
  EXPECT_EQ(outcome.err, "") << outcome.describe();
  const json report = json::parse(outcome.out);
  EXPECT_EQ(status_of(report, "capabilities"), "missing");
  EXPECT_EQ(status_of(report, "btf"), "ok");
  EXPECT_NE(outcome.out.find("CAP_BPF and CAP_PERFMON"), std::string::npos) << outcome.describe();
}

TEST(DoctorE2e, BadArgumentsAreRefused) {
  const Outcome outcome = doctor({"--yaml"});
  EXPECT_EQ(outcome.status(), 2) << outcome.describe();
  EXPECT_EQ(outcome.out, "");
  EXPECT_NE(outcome.err.find("--yaml"), std::string::npos) << outcome.describe();
}

TEST(DoctorE2e, AFullDiskIsAnError) {
  const Outcome outcome = run({.argv = {"sh", "-c", procguard_binary() + " doctor > /dev/full"}});
  EXPECT_EQ(outcome.status(), 1) << outcome.describe();
}

}  // namespace
}  // namespace procguard::test
