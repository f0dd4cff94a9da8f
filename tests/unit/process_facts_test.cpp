// SPDX-License-Identifier: Apache-2.0
#include "engine/process_facts.h"

#include <gtest/gtest.h>
#include <sys/ptrace.h>

#include "tests/support/child.h"
#include "tests/support/processes.h"
#include "tests/support/temp_tree.h"
#include "tests/support/test_cgroup.h"

namespace procguard::engine {
namespace {

using test::Child;
using test::RealCgroup;
using test::TempTree;
using test::wait_until;

std::string stat_line(std::uint32_t flags) {
  return "12 (x) S 1 1 1 0 -1 " + std::to_string(flags) +
         " 0 0 0 0 0 0 0 0 20 0 1 0 100 0 0 0 1 1 1\n";
}

std::string status_text(const std::string& more, char state = 'S') {
  return std::string("State:\t") + state + " (x)\nUid:\t0\t0\t0\t0\n" + more;
}

TEST(ProcessFacts, FromAFakeTree) {
  struct Row {
    const char* what;
    std::uint32_t flags;
    std::string status;
    std::string wchan;
    std::string events;
    ProcessFacts facts;
  };
  const Row rows[] = {
      {"plain", 0, status_text(""), "0", "frozen 0\n", {}},
      {"kernel thread", 0x00200000, status_text(""), "0", "", {.kernel_thread = true}},
      {"init with a handler",
       0,
       status_text("NSpid:\t12\t1\nSigCgt:\t0000000000004000\n"),
       "0",
       "",
       {.namespace_init = true, .handles_signal = true}},
      {"init without",
       0,
       status_text("NSpid:\t12\t1\nSigCgt:\t0000000000000002\n"),
       "0",
       "",
       {.namespace_init = true}},
      {"traced", 0, status_text("TracerPid:\t7\n", 't'), "0", "", {.frozen_or_traced = true}},
      {"frozen, v2", 0, status_text(""), "0", "frozen 1\n", {.frozen_or_traced = true}},
      {"frozen, v1", 0, status_text("", 'D'), "__refrigerator", "", {.frozen_or_traced = true}},
      {"waits for a disk", 0, status_text("", 'D'), "io_schedule", "", {}},
      {"a strange name", 0, status_text("", 'S'), "__refrigerator", "", {}},
      {"stopped is not frozen", 0, status_text("", 'T'), "0", "", {}},
  };
  for (const auto& row : rows) {
    const TempTree tree{{"12/stat", stat_line(row.flags)},
                        {"12/status", row.status},
                        {"12/task/12/wchan", row.wchan},
                        {"12/cgroup", "0::/jobs/a\n"},
                        {"cg/jobs/a/cgroup.events", row.events}};
    tree.write("self/mountinfo", "1 2 0:3 / " + tree.at("cg") + " rw - cgroup2 none rw\n");
    const ProcessFacts facts = process_facts(sys::ProcRoot(tree.path()))(12, SIGTERM);
    EXPECT_EQ(facts.kernel_thread, row.facts.kernel_thread) << row.what;
    EXPECT_EQ(facts.namespace_init, row.facts.namespace_init) << row.what;
    EXPECT_EQ(facts.handles_signal, row.facts.handles_signal) << row.what;
    EXPECT_EQ(facts.frozen_or_traced, row.facts.frozen_or_traced) << row.what;
  }
}

TEST(ProcessFacts, OfAGoneProcessAreAllNo) {
  const TempTree empty;
  const ProcessFacts facts = process_facts(sys::ProcRoot(empty.path()))(12, SIGTERM);
  EXPECT_FALSE(facts.kernel_thread || facts.namespace_init || facts.handles_signal ||
               facts.frozen_or_traced);
}

TEST(ProcessFacts, OfKernelThreadsAndOurselves) {
  const auto facts = process_facts();
  EXPECT_FALSE(facts(::getpid(), SIGTERM).kernel_thread);
  EXPECT_FALSE(facts(::getpid(), SIGTERM).namespace_init);
  if (sys::ProcRoot().stat(2) && sys::ProcRoot().stat(2).value().comm == "kthreadd") {
    EXPECT_TRUE(facts(2, SIGTERM).kernel_thread);
  }
}

TEST(ProcessFacts, OfATracedProcess) {
  Child child([] { test::pause_forever(); });
  const auto facts = process_facts();
  EXPECT_FALSE(facts(child.pid(), SIGTERM).frozen_or_traced);
  ASSERT_EQ(::ptrace(PTRACE_SEIZE, child.pid(), nullptr, nullptr), 0);
  EXPECT_TRUE(facts(child.pid(), SIGTERM).frozen_or_traced);
}

TEST_F(RealCgroup, FactsOfAFrozenProcess) {
  Child child([] { test::pause_forever(); });
  enter("", child.pid());
  const auto facts = process_facts();
  EXPECT_FALSE(facts(child.pid(), SIGTERM).frozen_or_traced);
  ASSERT_TRUE(sys::write_file(path_ + "/cgroup.freeze", "1"));
  EXPECT_TRUE(wait_until([&] { return facts(child.pid(), SIGTERM).frozen_or_traced; }));
  ASSERT_TRUE(sys::write_file(path_ + "/cgroup.freeze", "0"));
  child.end();
}

}  // namespace
}  // namespace procguard::engine
