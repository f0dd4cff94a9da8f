// SPDX-License-Identifier: Apache-2.0
// The structs of the contract have one layout: what clang made of them for the BPF object is what
// the C++ compiler makes of them here, member by member. The maps are shared memory between the
// two, so anything else is silent corruption.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdlib>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <utility>

#include "bpf/contract.h"
#include "tests/bpf/btf_types.h"

namespace procguard::tests {
namespace {

struct Slot {
  std::size_t offset;
  std::size_t size;
};
struct Layout {
  std::size_t size;
  std::map<std::string, Slot> members;
};

// LAYOUT(pg_edge, abi, size, ...) is one row: {"pg_edge", {24, {{"abi", {0, 4}}, ...}}}.
#define PARENTHESES ()
#define EXPAND(...) EXPAND_3(EXPAND_3(EXPAND_3(EXPAND_3(__VA_ARGS__))))
#define EXPAND_3(...) EXPAND_2(EXPAND_2(EXPAND_2(EXPAND_2(__VA_ARGS__))))
#define EXPAND_2(...) EXPAND_1(EXPAND_1(EXPAND_1(EXPAND_1(__VA_ARGS__))))
#define EXPAND_1(...) __VA_ARGS__
#define SLOTS(type, member, ...)                             \
  {#member, {offsetof(type, member), sizeof(type::member)}}, \
      __VA_OPT__(SLOTS_AGAIN PARENTHESES(type, __VA_ARGS__))
#define SLOTS_AGAIN() SLOTS
#define LAYOUT(type, ...) \
  std::make_pair(std::string(#type), Layout{sizeof(type), {EXPAND(SLOTS(type, __VA_ARGS__))}})

const std::map<std::string, Layout> kContract = {
    LAYOUT(pg_threshold, limit, over_since_ns, episodes, closed_episode, acted_ns, acted_pid,
           signal, set_over_since_ns, seen_acted_ns, seen_episode),
    LAYOUT(pg_failsafe, memory, memory_grace_ns, due_ns, cpu_ns, acted_ns, acted_pid,
           acted_resource, due_signal, cpu_signal),
    LAYOUT(pg_agent, tgid, orphaned, orphaned_since_ns, failsafe_next_ns, next_guard,
           watch_generation, padding),
    LAYOUT(pg_usage, cpu_ns, runnable_wait_ns, blocked_ns, voluntary_switches, involuntary_switches,
           grown_bytes, shrunk_bytes),
    LAYOUT(pg_ended_thread, tid, tgid, busy, padding, usage, comm),
    LAYOUT(pg_watch, id, cgroup_id, scope, flags, owner_uid, edge_unread, processes, memory_bytes,
           memory_plain_bytes, memory_peak_bytes, memory_plain_peak_bytes, memory, cpu, cpu_ns,
           largest, ended, failsafe),
    LAYOUT(pg_membership, watch, counted_bytes, plain_bytes, acted_episode),
    LAYOUT(pg_process, start_ns, exec_ns, base_bytes, rss_bytes, rss_peak_bytes, remote_grown_bytes,
           remote_shrunk_bytes, tgid, parent_tgid, threads, flags, member, comm),
    LAYOUT(pg_thread, start_ns, off_since_ns, off_ns, run_delay_seen_ns, watch, tid, tgid,
           off_state, exiting, usage, departed, comm),
    LAYOUT(pg_edge, abi, size, watch, at_ns),
    LAYOUT(pg_enrol, watch, enrolled, waiting, tgid, tid),
    LAYOUT(pg_trace_line, text),
    LAYOUT(pg_losses, edges, processes, threads, memberships, signals),
    LAYOUT(pg_step, action, signal, wait_ns),
    LAYOUT(pg_limit, limit, base, grace_ns, step_grace_ns, over_since_ns, due_ns, tripped_ns,
           observed, episodes, next_step, phase, padding),
    LAYOUT(pg_guard, abi, size, id, watch, armed_ns, target_start_ns, cgroup_id, pid, tid, scope,
           mode, owner_uid, phase, steps, last_signal, last_signal_ns, ladder, limit, step_resource,
           step_index, step_result, step_by, step_at_ns, paused_ns, paused_cpu_ns, ended_ns, flags,
           origin, name),
    LAYOUT(pg_limit_ns, limit_ns, base_ns, grace_ns, step_grace_ns, over_since_ns, due_ns,
           tripped_ns, observed_ns, episodes, next_step, phase, padding),
    LAYOUT(pg_limit_bytes, limit_bytes, base_bytes, grace_ns, step_grace_ns, over_since_ns, due_ns,
           tripped_ns, observed_bytes, episodes, next_step, phase, padding),
    LAYOUT(pg_guard_row, abi, size_bytes, id, watch, armed_ns, target_start_ns, cgroup_id, pid, tid,
           scope, mode, owner_uid, phase, steps, last_signal, last_signal_ns, ladder, timeout, cpu,
           memory, memory_growth, step_resource, step_index, step_result, step_by, step_at_ns,
           paused_ns, paused_cpu_ns, ended_ns, flags, origin, name),
    LAYOUT(pg_labels, text),
    LAYOUT(pg_event, abi, kind, at_ns, guard, limit, observed, due_ns, resource, pid, step, action,
           signal, by, result, error, name),
};

std::string generated(const std::string& file) {
  const char* build = std::getenv("PROCGUARD_BUILD");
  return std::string(build == nullptr ? "build" : build) + "/gen/" + file;
}

// Names of the structs that the contract's text defines.
std::set<std::string> structs_of_contract() {
  std::set<std::string> names;
  for (const char* part : {"bpf/contract.h", "bpf/contract_guard.h"}) {
    std::ifstream header(part);
    EXPECT_TRUE(header.good()) << part << " not read: run from the top of the source tree";
    const std::regex definition(R"(^struct (pg_\w+) \{)");
    std::smatch match;
    for (std::string line; std::getline(header, line);) {
      if (std::regex_search(line, match, definition)) {
        names.insert(match[1]);
      }
    }
  }
  return names;
}

void expect_same(const BtfTypes& object, const BtfRecord& record, const Layout& layout) {
  EXPECT_EQ(record.size_bytes, layout.size) << record.name;
  std::set<std::string> seen;
  for (const BtfMember& member : record.members) {
    const std::string name = record.name + "." + member.name;
    seen.insert(member.name);
    const auto slot = layout.members.find(member.name);
    if (slot == layout.members.end()) {
      ADD_FAILURE() << name << " is in no LAYOUT() row";
      continue;
    }
    EXPECT_EQ(member.offset_bits, slot->second.offset * 8) << name;
    EXPECT_EQ(object.size_bytes(member.type), slot->second.size) << name;
  }
  for (const auto& [name, slot] : layout.members) {
    EXPECT_EQ(seen.count(name), 1U) << record.name << "." << name << " is not in the object";
  }
}

// The map of guards has the names with units; user space writes a pg_guard.
TEST(ContractLayout, AGuardsRowIsTheGuard) {
  constexpr std::pair<std::size_t, std::size_t> kPairs[] = {
      {offsetof(pg_guard, pid), offsetof(pg_guard_row, pid)},
      {offsetof(pg_guard, scope), offsetof(pg_guard_row, scope)},
      {offsetof(pg_guard, ladder), offsetof(pg_guard_row, ladder)},
      {offsetof(pg_guard, limit[PG_TIMEOUT]), offsetof(pg_guard_row, timeout)},
      {offsetof(pg_guard, limit[PG_CPU]), offsetof(pg_guard_row, cpu)},
      {offsetof(pg_guard, limit[PG_MEMORY]), offsetof(pg_guard_row, memory)},
      {offsetof(pg_guard, limit[PG_MEMORY_GROWTH]), offsetof(pg_guard_row, memory_growth)},
      {offsetof(pg_limit, observed), offsetof(pg_limit_ns, observed_ns)},
      {offsetof(pg_limit, observed), offsetof(pg_limit_bytes, observed_bytes)},
      {offsetof(pg_limit, phase), offsetof(pg_limit_ns, phase)},
      {offsetof(pg_limit, phase), offsetof(pg_limit_bytes, phase)},
      {offsetof(pg_guard, step_resource), offsetof(pg_guard_row, step_resource)},
      {offsetof(pg_guard, paused_ns), offsetof(pg_guard_row, paused_ns)},
      {offsetof(pg_guard, origin), offsetof(pg_guard_row, origin)},
      {offsetof(pg_guard, name), offsetof(pg_guard_row, name)},
  };
  for (const auto& [guard, row] : kPairs) {
    EXPECT_EQ(guard, row);
  }
}

TEST(ContractLayout, EveryStructOfTheHeaderHasARow) {
  const std::set<std::string> names = structs_of_contract();
  ASSERT_FALSE(names.empty()) << "bpf/contract.h not read: run from the top of the source tree";
  for (const std::string& name : names) {
    EXPECT_EQ(kContract.count(name), 1U) << name << " has no LAYOUT() row";
  }
}

// Compares all that `path` knows of the contract; gives the names.
std::set<std::string> compare(const std::string& path) {
  std::set<std::string> compared;
  const auto object = BtfTypes::of_object(path);
  if (!object.ok()) {
    ADD_FAILURE() << object.error().message();
    return compared;
  }
  for (const auto& [name, layout] : kContract) {
    const auto [first, last] = object.value().records().equal_range(name);
    for (auto record = first; record != last; ++record) {
      expect_same(object.value(), record->second, layout);
      compared.insert(name);
    }
  }
  return compared;
}

TEST(ContractLayout, IsTheSameForTheBpfCompiler) {
  const std::set<std::string> compared = compare(generated("tests/layout.bpf.o"));
  for (const auto& [name, layout] : kContract) {
    EXPECT_EQ(compared.count(name), 1U) << name << " has no variable in tests/bpf/layout.bpf.c";
  }
}

TEST(ContractLayout, IsTheSameInTheObjectThatIsLoaded) {
  const std::set<std::string> compared = compare(generated("procguard.bpf.o"));
  for (const char* map_value : {"pg_watch", "pg_process", "pg_thread"}) {
    EXPECT_EQ(compared.count(map_value), 1U) << map_value << " is the value of no map";
  }
}

}  // namespace
}  // namespace procguard::tests
