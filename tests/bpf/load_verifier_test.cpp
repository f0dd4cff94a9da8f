// SPDX-License-Identifier: Apache-2.0
// Every program passes the verifier of the running kernel, and at what cost: the instructions the
// verifier walks through are the time a `procguard run` waits for its guard. A change that doubles
// a number has to say so here.
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/bpf/watched.h"

namespace procguard::test {
namespace {

using kernel::Group;
using kernel::LoadOptions;
using kernel::Programs;

// Names of programs in bpf_prog_info end after 15 characters; the BTF of the program has all.
std::string full_name(int fd, const bpf_prog_info& info) {
  if (info.btf_id == 0 || info.nr_func_info == 0) {
    return info.name;
  }
  std::vector<char> functions(static_cast<std::size_t>(info.nr_func_info) *
                              info.func_info_rec_size);
  bpf_prog_info again{};
  again.nr_func_info = info.nr_func_info;
  again.func_info_rec_size = info.func_info_rec_size;
  again.func_info = reinterpret_cast<std::uintptr_t>(functions.data());
  __u32 size = sizeof(again);
  std::unique_ptr<btf, decltype(&btf__free)> types(btf__load_from_kernel_by_id(info.btf_id),
                                                   &btf__free);
  if (types == nullptr || bpf_obj_get_info_by_fd(fd, &again, &size) != 0) {
    return info.name;
  }
  const auto* first = reinterpret_cast<const bpf_func_info*>(functions.data());
  const btf_type* type = btf__type_by_id(types.get(), first->type_id);
  return type == nullptr ? info.name : btf__name_by_offset(types.get(), type->name_off);
}

// What this process has loaded, by name: instructions the verifier went through.
std::map<std::string, __u32> loaded_programs() {
  std::map<std::string, __u32> programs;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    int fd = -1;
    const std::string name = entry.path().filename();
    std::from_chars(name.data(), name.data() + name.size(), fd);
    std::error_code none;
    if (std::filesystem::read_symlink(entry.path(), none) != "anon_inode:bpf-prog") {
      continue;
    }
    bpf_prog_info info{};
    __u32 size = sizeof(info);
    if (bpf_obj_get_info_by_fd(fd, &info, &size) == 0) {
      programs[full_name(fd, info)] = info.verified_insns;
    }
  }
  return programs;
}

class LoadVerifier : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string reason = why_no_bpf(); !reason.empty()) {
      GTEST_SKIP() << reason;
    }
  }
};

// About twice what 6.18 needs.
const std::map<std::string, __u32> kBudgets = {
    {"pg_cgroup_attach_task", 16000}, {"pg_cgroup_rmdir", 200},
    {"pg_enrol_tasks", 12000},        {"pg_failsafe_switch", 8000},
    {"pg_failsafe_tick", 1500},       {"pg_learn_cpu_offsets", 200},
    {"pg_rss_stat", 10000},           {"pg_sched_process_exec", 6000},
    {"pg_sched_process_exit", 10000}, {"pg_sched_stat_runtime", 1000},
    {"pg_sched_switch", 800},         {"pg_sys_exit", 500},
    {"pg_task_newtask", 16000},       {"pg_tell_event", 20},
    {"pg_trace_event", 50},
};

TEST_F(LoadVerifier, EveryProgramWithinItsBudget) {
  const auto programs = Programs::load({.failsafe = true});
  ASSERT_TRUE(programs.ok()) << programs.error().message();
  const auto loaded = loaded_programs();
  for (const auto& [name, instructions] : loaded) {
    const auto budget = kBudgets.find(name);
    ASSERT_NE(budget, kBudgets.end()) << name << " has no budget: " << instructions;
    EXPECT_LE(instructions, budget->second) << name;
    EXPECT_GE(instructions, budget->second / 10) << name << ": its budget says nothing any more";
  }
  EXPECT_EQ(loaded.size(), kBudgets.size());
}

// What is not wanted is not loaded, and what stays is less: a run without limits of memory starts
// sooner.
TEST_F(LoadVerifier, OnlyWhatIsWanted) {
  std::map<std::string, __u32> all;
  {
    const auto programs = Programs::load({});
    ASSERT_TRUE(programs.ok()) << programs.error().message();
    all = loaded_programs();
  }
  LoadOptions little;
  little.cgroups = false;
  little.memory = false;
  const auto programs = Programs::load(little);
  ASSERT_TRUE(programs.ok()) << programs.error().message();
  const auto some = loaded_programs();
  EXPECT_FALSE(some.contains("pg_rss_stat"));
  EXPECT_FALSE(some.contains("pg_cgroup_attach_task"));
  EXPECT_FALSE(some.contains("pg_cgroup_rmdir"));
  EXPECT_FALSE(some.contains("pg_learn_cpu_offsets"));
  EXPECT_EQ(some.size(), all.size() - 4);
  EXPECT_LT(some.at("pg_task_newtask"), all.at("pg_task_newtask"));
  EXPECT_FALSE(programs.value()->attach(Group::kMemory).ok()) << "it was not loaded";
}

TEST_F(LoadVerifier, AttachesAndDetachesByGroup) {
  auto loaded = Programs::load({});
  ASSERT_TRUE(loaded.ok()) << loaded.error().message();
  Programs& programs = *loaded.value();
  for (int round = 0; round < 2; ++round) {
    for (const Group group : {Group::kLifecycle, Group::kScheduler, Group::kMemory, Group::kDoom}) {
      const auto attached = programs.attach(group);
      EXPECT_TRUE(attached.ok()) << attached.error().message();
      EXPECT_TRUE(programs.attach(group).ok()) << "once more is nothing";
    }
    for (const Group group : {Group::kLifecycle, Group::kScheduler, Group::kMemory, Group::kDoom}) {
      programs.detach(group);
    }
  }
}

// Nothing of it stays in the kernel.
TEST_F(LoadVerifier, LeavesNothingOpen) {
  const auto open_files = [] {
    std::size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
      count += entry.path().empty() ? 0 : 1;
    }
    return count;
  };
  const std::size_t before = open_files();
  {
    auto programs = Programs::load({});
    ASSERT_TRUE(programs.ok()) << programs.error().message();
    EXPECT_TRUE(programs.value()->attach(Group::kLifecycle).ok());
    EXPECT_GT(open_files(), before);
  }
  EXPECT_EQ(open_files(), before);
  EXPECT_TRUE(loaded_programs().empty());
}

TEST_F(LoadVerifier, SaysWhenItMayNot) {
  Peer peer([](Script& line) {
    if (::setresuid(65534, 65534, 65534) != 0) {
      line.say(-2);
    }
    const auto programs = Programs::load({});
    line.say(programs ? 0 : programs.error().code());
  });
  EXPECT_EQ(peer.hear(), EPERM);
}

}  // namespace
}  // namespace procguard::test
