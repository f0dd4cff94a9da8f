// SPDX-License-Identifier: Apache-2.0
// What doctor says of machines that this one is not.
#include "cli/doctor.h"

#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sched.h>

#include <cerrno>
#include <functional>
#include <nlohmann/json.hpp>
#include <set>

#include "proto/client.h"

namespace procguard::cli {
namespace {

// Everything in order.
Facts healthy() {
  Facts facts;
  facts.release = "6.12.9-amd64";
  facts.machine = "x86_64";
  facts.features = {.btf = true,
                    .programs_load = true,
                    .programs_attach = true,
                    .error = "",
                    .exact_sums = true,
                    .percpu_rss = true,
                    .mm_owner = true,
                    .sched_info = true,
                    .signal_task = true};
  facts.capabilities.effective = ~std::uint64_t{0};
  facts.lockdown = sys::Lockdown::kNone;
  facts.cgroups.v2 = sys::CgroupMounts::V2{.point = "/sys/fs/cgroup", .root = "/"};
  facts.cgroup_writable = true;
  facts.tracefs = "/sys/kernel/tracing";
  facts.bpffs = "/sys/fs/bpf";
  facts.limits.open_files = {.soft = 1024, .hard = 4096};
  facts.limits.locked_memory_bytes = {.soft = 65536, .hard = sys::kUnlimited};
  facts.pid_max = 4194304;
  facts.scheduling = {.policy = SCHED_FIFO, .priority = 1, .reset_on_fork = true, .error = 0};
  return facts;
}

const Check& find(const std::vector<Check>& checks, const std::string& id) {
  static const Check none;
  for (const Check& check : checks) {
    if (check.id == id) {
      return check;
    }
  }
  ADD_FAILURE() << "no check " << id;
  return none;
}

TEST(Doctor, AHealthyMachineHasNothingToDo) {
  const auto checks = diagnose(healthy());
  std::set<std::string> ids;
  for (const Check& check : checks) {
    EXPECT_EQ(check.status, CheckStatus::kOk) << check.id;
    EXPECT_NE(check.found, "") << check.id;
    EXPECT_NE(check.means, "") << check.id;
    EXPECT_EQ(check.fix, "") << check.id;
    EXPECT_TRUE(ids.insert(check.id).second) << check.id << " twice";
  }
  EXPECT_EQ(doctor_status(checks), 0);
  const std::string text = doctor_text(healthy(), checks);
  EXPECT_NE(text.find("All that procguard needs works here."), std::string::npos);
  EXPECT_EQ(text.find("To do"), std::string::npos);
}

struct Case {
  const char* what;
  std::function<void(Facts&)> change;
  const char* id;
  CheckStatus status;
  const char* says;  // somewhere in found, means or fix
};

TEST(Doctor, WhatIsWrongIsNamedWithWhatToDo) {
  const Case cases[] = {
      {"an old kernel", [](Facts& f) { f.release = "5.15.0-91-generic"; }, "kernel",
       CheckStatus::kWarn, "6.1"},
      {"a strange version", [](Facts& f) { f.release = "six"; }, "kernel", CheckStatus::kWarn,
       "six"},
      {"no BTF", [](Facts& f) { f.features = {.error = "no such file"}; }, "btf",
       CheckStatus::kMissing, "CONFIG_DEBUG_INFO_BTF"},
      {"no privileges", [](Facts& f) { f.capabilities.effective = 0; }, "capabilities",
       CheckStatus::kMissing, "CAP_BPF and CAP_PERFMON are missing"},
      {"half of them", [](Facts& f) { f.capabilities.effective = std::uint64_t{1} << CAP_BPF; },
       "capabilities", CheckStatus::kMissing, "CAP_PERFMON is missing"},
      {"a rootless container", [](Facts& f) { f.capabilities.initial_user_namespace = false; },
       "capabilities", CheckStatus::kMissing, "user namespace"},
      {"in a container", [](Facts& f) { f.host_pid_namespace = false; }, "pid_namespace",
       CheckStatus::kMissing, "--pid=host"},
      {"confidentiality", [](Facts& f) { f.lockdown = sys::Lockdown::kConfidentiality; },
       "lockdown", CheckStatus::kWarn, "integrity"},
      {"programs refused",
       [](Facts& f) {
         f.features.programs_load = false;
         f.features.error = "verifier\x1b[31m says no";
       },
       "programs", CheckStatus::kMissing, "verifier\\x1b[31m says no"},
      {"programs do not attach", [](Facts& f) { f.features.programs_attach = false; }, "programs",
       CheckStatus::kMissing, "do not attach"},
      {"no exact sums", [](Facts& f) { f.features.exact_sums = false; }, "exact_sums",
       CheckStatus::kWarn, "32 pages"},
      {"not tried", [](Facts& f) { f.features.programs_load = false; }, "exact_sums",
       CheckStatus::kWarn, "not known"},
      {"before 6.2", [](Facts& f) { f.features.percpu_rss = false; }, "rss_events",
       CheckStatus::kWarn, "6.2"},
      {"no CONFIG_MEMCG", [](Facts& f) { f.features.mm_owner = false; }, "mm_owner",
       CheckStatus::kMissing, "CONFIG_MEMCG"},
      {"no CONFIG_SCHED_INFO", [](Facts& f) { f.features.sched_info = false; }, "sched_info",
       CheckStatus::kWarn, "CONFIG_SCHED_INFO"},
      {"v1 only", [](Facts& f) { f.cgroups.v2.reset(); }, "cgroup", CheckStatus::kWarn,
       "mount -t cgroup2"},
      {"both versions",
       [](Facts& f) {
         f.cgroups.v1_points = {"/a", "/b"};
       },
       "cgroup", CheckStatus::kOk, "2 v1 hierarchies"},
      {"not our cgroups", [](Facts& f) { f.cgroup_writable = false; }, "cgroup", CheckStatus::kWarn,
       "Delegate"},
      {"no tracefs", [](Facts& f) { f.tracefs = ""; }, "tracefs", CheckStatus::kWarn,
       "mount -t tracefs"},
      {"no bpffs", [](Facts& f) { f.bpffs = ""; }, "bpffs", CheckStatus::kWarn, "mount -t bpf"},
      {"few files", [](Facts& f) { f.limits.open_files.soft = 64; }, "open_files",
       CheckStatus::kWarn, "ulimit -n"},
      {"locked memory counted", [](Facts& f) { f.release = "5.4.0"; }, "locked_memory",
       CheckStatus::kWarn, "ulimit -l"},
      {"no real-time class",
       [](Facts& f) { f.scheduling = {.policy = SCHED_OTHER, .error = EPERM}; }, "realtime",
       CheckStatus::kWarn, "refused"},
      {"no agent", [](Facts& f) { f.agent_error = ENOENT; }, "agent", CheckStatus::kOk,
       "none is running"},
      {"an agent of somebody else's group",
       [](Facts& f) {
         f.agent_error = EACCES;
         f.agent_group = "guards";
       },
       "agent", CheckStatus::kWarn, "usermod -a -G guards"},
      {"root's agent", [](Facts& f) { f.agent_error = EACCES; }, "agent", CheckStatus::kWarn,
       "socket_group"},
      {"another user's agent", [](Facts& f) { f.agent_error = proto::Client::kServedByAnother; },
       "agent", CheckStatus::kWarn, "PROCGUARD_SOCKET"},
      {"an agent that hangs", [](Facts& f) { f.agent_error = EAGAIN; }, "agent", CheckStatus::kWarn,
       "does not answer"},
      {"before 6.13", [](Facts& f) { f.features.signal_task = false; }, "failsafe",
       CheckStatus::kWarn, "next agent"},
  };
  for (const Case& row : cases) {
    Facts facts = healthy();
    row.change(facts);
    const auto checks = diagnose(facts);
    const Check& check = find(checks, row.id);
    EXPECT_EQ(check.status, row.status) << row.what;
    const std::string all = check.found + "\n" + check.means + "\n" + check.fix;
    EXPECT_NE(all.find(row.says), std::string::npos) << row.what << ":\n" << all;
    EXPECT_EQ(check.fix.empty(), row.status == CheckStatus::kOk) << row.what;
    EXPECT_EQ(
        doctor_status(checks),
        row.status == CheckStatus::kMissing || !facts.features.programs_load ? kDoctorMissing : 0)
        << row.what;
    EXPECT_NE(doctor_text(facts, checks).find(check.found), std::string::npos) << row.what;
  }
}

TEST(Doctor, JsonHasTheSameAndIsAlwaysReadable) {
  Facts facts = healthy();
  facts.release = "6.1.0\xff";
  facts.tracefs = "";
  const auto checks = diagnose(facts);
  const auto json = nlohmann::json::parse(doctor_json(facts, checks));
  EXPECT_EQ(json.at("schema"), 1);
  EXPECT_EQ(json.at("version"), PROCGUARD_VERSION);
  EXPECT_EQ(json.at("ok"), true);
  ASSERT_EQ(json.at("checks").size(), checks.size());
  for (std::size_t i = 0; i < checks.size(); ++i) {
    const auto& entry = json.at("checks").at(i);
    EXPECT_EQ(entry.at("id"), checks[i].id);
    EXPECT_EQ(entry.at("fix").is_null(), checks[i].fix.empty());
    EXPECT_TRUE(entry.at("status") == "ok" || entry.at("status") == "warn");
  }
}

}  // namespace
}  // namespace procguard::cli
