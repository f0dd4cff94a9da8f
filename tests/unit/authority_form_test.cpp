// SPDX-License-Identifier: Apache-2.0
// The form of a request: every field as an enemy would fill it.
#include <gtest/gtest.h>

#include <csignal>
#include <cstring>
#include <functional>
#include <string>

#include "agent/authority.h"
#include "core/clock.h"
#include "proto/codec.h"

namespace procguard::agent {
namespace {

using proto::AttachBody;
using proto::put_text;

struct FormRow {
  const char* description;
  std::function<void(AttachBody&)> change;
  const char* refusal;  // in the text; "" = right
};

template <std::size_t Count>
void check(const FormRow (&rows)[Count]) {
  for (const FormRow& row : rows) {
    AttachBody wanted;
    wanted.flags = proto::kHasFd;
    wanted.scope = PG_SCOPE_PROCESS;
    wanted.limit[PG_TIMEOUT] = core::kSecond;
    wanted.steps = 1;
    wanted.ladder[0] = {.action = PG_ACTION_SIGNAL, .signal = SIGTERM, .wait_ns = 0};
    row.change(wanted);
    const auto denial = check_form(wanted);
    const std::string text = denial ? denial->text : "";
    EXPECT_EQ(text.empty(), *row.refusal == '\0') << row.description << ": " << text;
    EXPECT_NE(text.find(row.refusal), std::string::npos) << row.description << ": " << text;
    if (denial) {
      EXPECT_EQ(denial->status, proto::Status::kInvalid) << row.description;
      EXPECT_NE(text.find("expected"), std::string::npos) << text;
      EXPECT_LT(text.size(), proto::kErrorText) << text;
    }
  }
}

void by_number(AttachBody& b, std::uint32_t pid) {
  b.flags &= ~static_cast<std::uint32_t>(proto::kHasFd);
  b.pid = pid;
}

void thread(AttachBody& b, std::uint32_t tid) {
  b.scope = PG_SCOPE_THREAD;
  b.tid = tid;
}

TEST(AuthorityForm, Target) {
  const FormRow rows[] = {
      {"a process", [](AttachBody&) {}, ""},
      {"a process by number", [](AttachBody& b) { by_number(b, 42); }, ""},
      {"a thread", [](AttachBody& b) { thread(b, 43); }, ""},
      {"a tree", [](AttachBody& b) { b.scope = PG_SCOPE_TREE; }, ""},
      {"a cgroup", [](AttachBody& b) { b.scope = PG_SCOPE_CGROUP; }, ""},
      {"all flags", [](AttachBody& b) { b.flags = 31; }, ""},
      {"no scope", [](AttachBody& b) { b.scope = 0; }, "scope 0 is unknown"},
      {"a scope too far", [](AttachBody& b) { b.scope = 5; }, "scope 5"},
      {"a scope from nowhere", [](AttachBody& b) { b.scope = UINT32_MAX; }, "scope 4294967295"},
      {"an unknown flag", [](AttachBody& b) { b.flags |= 32; }, "flags 33"},
      {"no target", [](AttachBody& b) { by_number(b, 0); }, "pid 0"},
      {"a negative pid", [](AttachBody& b) { by_number(b, UINT32_MAX); }, "pid 4294967295"},
      {"two targets", [](AttachBody& b) { b.pid = 42; }, "one of the two"},
      {"a thread without tid", [](AttachBody& b) { thread(b, 0); }, "tid 0"},
      {"a negative tid", [](AttachBody& b) { thread(b, 1U << 31); }, "tid 2147483648"},
      {"a tid of no thread", [](AttachBody& b) { b.tid = 3; }, "a tid with scope process"},
      {"a cgroup by number",
       [](AttachBody& b) {
         by_number(b, 42);
         b.scope = PG_SCOPE_CGROUP;
       },
       "without a descriptor"},
  };
  check(rows);
}

TEST(AuthorityForm, Numbers) {
  const FormRow rows[] = {
      {"the largest limit", [](AttachBody& b) { b.limit[PG_CPU] = INT64_MAX; }, ""},
      {"no limit", [](AttachBody& b) { b.limit[PG_TIMEOUT] = 0; }, "no limit"},
      {"a limit above", [](AttachBody& b) { b.limit[PG_MEMORY_GROWTH] = 1ULL << 63; },
       "the limit memory_growth is 9223372036854775808"},
      {"grace of memory",
       [](AttachBody& b) {
         b.limit[PG_MEMORY] = 1;
         b.grace_ns = core::kSecond;
       },
       ""},
      {"grace of growth",
       [](AttachBody& b) {
         b.limit[PG_MEMORY_GROWTH] = 1;
         b.grace_ns = core::kSecond;
       },
       ""},
      {"grace of a timeout", [](AttachBody& b) { b.grace_ns = 1; }, "step grace"},
      {"grace without end", [](AttachBody& b) { b.grace_ns = UINT64_MAX; }, "grace is 184"},
      {"step grace without end", [](AttachBody& b) { b.step_grace_ns = UINT64_MAX; },
       "step grace is 184"},
  };
  check(rows);
}

void step(AttachBody& b, std::uint32_t action, std::uint32_t signal) {
  b.steps = 2;
  b.ladder[1] = {.action = action, .signal = signal, .wait_ns = 0};
}

TEST(AuthorityForm, Ladder) {
  const FormRow rows[] = {
      {"two signals", [](AttachBody& b) { step(b, PG_ACTION_SIGNAL, 64); }, ""},
      {"as many as there can be",
       [](AttachBody& b) {
         b.steps = PG_STEPS;
         std::fill(b.ladder, b.ladder + PG_STEPS, b.ladder[0]);
       },
       ""},
      {"rubbish behind the last step",
       [](AttachBody& b) {
         step(b, 99, 99);
         b.steps = 1;
       },
       ""},
      {"no step", [](AttachBody& b) { b.steps = 0; }, "0 steps"},
      {"too many", [](AttachBody& b) { b.steps = PG_STEPS + 1; }, "9 steps"},
      {"far too many", [](AttachBody& b) { b.steps = UINT32_MAX; }, "4294967295 steps"},
      {"an exception", [](AttachBody& b) { step(b, PG_ACTION_EXCEPTION, 0); },
       "a program's own guards"},
      {"no action", [](AttachBody& b) { step(b, PG_ACTION_NONE, SIGTERM); }, "unknown action 0"},
      {"another action", [](AttachBody& b) { step(b, 3, SIGTERM); }, "unknown action 3"},
      {"signal 0", [](AttachBody& b) { step(b, PG_ACTION_SIGNAL, 0); }, "step 1 has signal 0"},
      {"signal 65", [](AttachBody& b) { step(b, PG_ACTION_SIGNAL, 65); }, "signal 65"},
      {"a wait without end", [](AttachBody& b) { b.ladder[0].wait_ns = UINT64_MAX; },
       "step 0's wait"},
  };
  check(rows);
}

TEST(AuthorityForm, Name) {
  const FormRow rows[] = {
      {"none", [](AttachBody&) {}, ""},
      {"a word", [](AttachBody& b) { put_text(b.name, "import/job-7_a.b"); }, ""},
      {"the longest", [](AttachBody& b) { put_text(b.name, std::string(PG_NAME_LEN - 1, 'x')); },
       ""},
      {"almost an id", [](AttachBody& b) { put_text(b.name, "g12x"); }, ""},
      {"a g", [](AttachBody& b) { put_text(b.name, "g"); }, ""},
      {"no end", [](AttachBody& b) { std::memset(b.name, 'x', sizeof(b.name)); }, "no end"},
      {"a blank", [](AttachBody& b) { put_text(b.name, "a b"); }, "without blanks"},
      {"a line end", [](AttachBody& b) { put_text(b.name, "a\n"); }, "printable ASCII"},
      {"an escape", [](AttachBody& b) { put_text(b.name, "\x1b[2J"); }, "printable ASCII"},
      {"UTF-8", [](AttachBody& b) { put_text(b.name, "\xc3\xa9"); }, "printable ASCII"},
      {"a number", [](AttachBody& b) { put_text(b.name, "12"); }, "looks like a guard's id"},
      {"an id", [](AttachBody& b) { put_text(b.name, "g12"); }, "looks like a guard's id"},
  };
  check(rows);
}

TEST(AuthorityForm, Labels) {
  const FormRow rows[] = {
      {"one", [](AttachBody& b) { put_text(b.labels, "team=a b=c"); }, ""},
      {"two", [](AttachBody& b) { put_text(b.labels, "team=a\nk8s.io_pod-name=\n"); }, ""},
      {"the longest key", [](AttachBody& b) { put_text(b.labels, std::string(63, 'k') + "=v"); },
       ""},
      {"a path and UTF-8", [](AttachBody& b) { put_text(b.labels, "k8s.io/team=Z\xc3\xbcrich"); },
       ""},
      {"no end", [](AttachBody& b) { std::memset(b.labels, 'x', sizeof(b.labels)); }, "no end"},
      {"no =", [](AttachBody& b) { put_text(b.labels, "team"); }, "label 1: expected K=V"},
      {"no key", [](AttachBody& b) { put_text(b.labels, "a=b\n=b"); }, "label 2: expected K=V"},
      {"an empty line", [](AttachBody& b) { put_text(b.labels, "a=b\n\nc=d"); }, "label 2"},
      {"a key too long", [](AttachBody& b) { put_text(b.labels, std::string(64, 'k') + "=v"); },
       "label 1"},
      {"a key with a blank", [](AttachBody& b) { put_text(b.labels, "a b=c"); }, "label 1"},
      {"an escape in a value", [](AttachBody& b) { put_text(b.labels, "a=\x1b[2J"); },
       "label 1, a: a byte"},
      {"a key twice", [](AttachBody& b) { put_text(b.labels, "a=1\na=2"); }, "is there twice"},
  };
  check(rows);
}

}  // namespace
}  // namespace procguard::agent
