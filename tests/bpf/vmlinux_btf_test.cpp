// SPDX-License-Identifier: Apache-2.0
// The hand-kept kernel types (vmlinux/vmlinux.h) against real kernels: the running one and the
// matrix of `make test-kernels`. Every member of every kernel struct that the BPF object knows must
// be there, of a type that CO-RE takes, or be in the table below with what is read instead.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <ostream>
#include <set>
#include <string>
#include <vector>

#include "tests/bpf/btf_types.h"

namespace procguard::tests {
namespace {

// A member that some kernels lack. `record` is the struct's name in our object, flavour included.
struct Optional {
  std::string record;
  std::string member;
  std::set<std::string> kernels;  // of the matrix: those that have it
  std::string fallback_record;    // read where it is not there
  std::string fallback_member;
};

const std::vector<Optional> kOptional = {
    {"mm_struct", "rss_stat", {"6.12"}, "mm_struct___before_6_2", "rss_stat"},
    {"mm_struct___before_6_2", "rss_stat", {"6.1"}, "mm_struct", "rss_stat"},
    {"mm_rss_stat", "count", {"6.1"}, "percpu_counter", "count"},
    // A thread's own cache of its mm's counters; newer kernels have none to add.
    {"task_struct", "rss_stat", {"6.1"}, "mm_struct", "rss_stat"},
    {"task_rss_stat", "count", {"6.1"}, "percpu_counter", "count"},
    // Since 6.16 the exit event says that it was the last thread; before, the count of live ones.
    {"trace_event_raw_sched_process_exit", "group_dead", {}, "signal_struct", "live"},
};

struct Kernel {
  std::string name;
  std::string btf;
};

void PrintTo(const Kernel& kernel, std::ostream* os) {
  *os << kernel.name;
}

std::string test_name(const testing::TestParamInfo<Kernel>& kernel) {
  std::string name = kernel.param.name;
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
}

const std::vector<Kernel> kKernels = {
    {"running", "/sys/kernel/btf/vmlinux"},
    {"6.1", "build/kernels/6.1/btf"},
    {"6.12", "build/kernels/6.12/btf"},
};

std::string object_path() {
  const char* build = std::getenv("PROCGUARD_BUILD");
  return std::string(build == nullptr ? "build" : build) + "/gen/procguard.bpf.o";
}

bool is_ours(const std::string& name) {
  return name.rfind("pg_", 0) == 0;
}

const Optional* optional(const std::string& record, const std::string& member) {
  for (const Optional& row : kOptional) {
    if (row.record == record && row.member == member) {
      return &row;
    }
  }
  return nullptr;
}

const BtfMember* member_of(const BtfRecord& record, const std::string& name) {
  for (const BtfMember& member : record.members) {
    if (member.name == name) {
      return &member;
    }
  }
  return nullptr;
}

// Why `kernel` has no such member; empty if it has. A kernel can have several structs of one name:
// like libbpf, any of them will do.
std::string why_absent(const BtfTypes& object, const BtfRecord& record, const BtfMember& member,
                       const BtfTypes& kernel) {
  const std::string name = essential_name(record.name);
  const auto [first, last] = kernel.records().equal_range(name);
  std::string why = "no struct " + name;
  for (auto candidate = first; candidate != last; ++candidate) {
    const BtfMember* theirs = member_of(candidate->second, member.name);
    why = theirs == nullptr ? "no such member" : object.mismatch(member.type, kernel, theirs->type);
    if (why.empty()) {
      return why;
    }
  }
  return why;
}

// The same for a member given by name, which our object must know.
std::string why_absent(const BtfTypes& object, const std::string& record, const std::string& member,
                       const BtfTypes& kernel) {
  const auto found = object.records().find(record);
  const BtfMember* ours =
      found == object.records().end() ? nullptr : member_of(found->second, member);
  return ours == nullptr ? "not in our object" : why_absent(object, found->second, *ours, kernel);
}

class VmlinuxBtf : public testing::TestWithParam<Kernel> {
 protected:
  // A matrix kernel has what the table says, no more and no less: a stale row is a defect.
  void check(const BtfTypes& object, const BtfTypes& kernel, const BtfRecord& record,
             const BtfMember& member) {
    const std::string absent = why_absent(object, record, member, kernel);
    const std::string field = record.name + "." + member.name;
    const Optional* row = optional(record.name, member.name);
    if (row == nullptr) {
      EXPECT_EQ(absent, "") << field << " is not in kernel " << GetParam().name
                            << " and has no fallback";
      return;
    }
    if (GetParam().name != "running") {
      EXPECT_EQ(absent.empty(), row->kernels.count(GetParam().name) != 0)
          << field << " in kernel " << GetParam().name << ": "
          << (absent.empty() ? "is there" : absent) << "; the table says otherwise";
    }
    if (!absent.empty()) {
      EXPECT_EQ(why_absent(object, row->fallback_record, row->fallback_member, kernel), "")
          << "fallback " << row->fallback_record << "." << row->fallback_member << " of " << field;
    }
  }
};

TEST_P(VmlinuxBtf, HasEveryFieldOrItsFallback) {
  const auto object = BtfTypes::of_object(object_path());
  ASSERT_TRUE(object.ok()) << object.error().message();
  const auto kernel = BtfTypes::of_kernel(GetParam().btf);
  if (!kernel.ok()) {
    GTEST_SKIP() << kernel.error().message() << "; `make kernels-btf` fetches it";
  }
  std::size_t checked = 0;
  for (const auto& [name, record] : object.value().records()) {
    if (is_ours(name)) {
      continue;
    }
    for (const BtfMember& member : record.members) {
      check(object.value(), kernel.value(), record, member);
      ++checked;
    }
  }
  EXPECT_GT(checked, 20U) << "hardly any kernel type in " << object_path();
}

// Enumerators are compiled in as numbers: no relocation saves us if a kernel numbers otherwise.
TEST_P(VmlinuxBtf, HasEveryEnumeratorWithItsValue) {
  const auto object = BtfTypes::of_object(object_path());
  ASSERT_TRUE(object.ok()) << object.error().message();
  const auto kernel = BtfTypes::of_kernel(GetParam().btf);
  if (!kernel.ok()) {
    GTEST_SKIP() << kernel.error().message() << "; `make kernels-btf` fetches it";
  }
  const auto& theirs = kernel.value().enumerators();
  for (const auto& [name, value] : object.value().enumerators()) {
    if (name.rfind("PG_", 0) == 0) {
      continue;
    }
    const auto found = theirs.find(name);
    ASSERT_NE(found, theirs.end()) << name << " is not in kernel " << GetParam().name;
    EXPECT_EQ(found->second, value) << name << " in kernel " << GetParam().name;
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, VmlinuxBtf, testing::ValuesIn(kKernels), test_name);

TEST(VmlinuxBtfTable, NamesOnlyWhatTheObjectKnows) {
  const auto object = BtfTypes::of_object(object_path());
  ASSERT_TRUE(object.ok()) << object.error().message();
  for (const Optional& row : kOptional) {
    const auto found = object.value().records().find(row.record);
    ASSERT_NE(found, object.value().records().end()) << row.record;
    EXPECT_NE(member_of(found->second, row.member), nullptr) << row.record << "." << row.member;
  }
}

}  // namespace
}  // namespace procguard::tests
