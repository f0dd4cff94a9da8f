// SPDX-License-Identifier: Apache-2.0
// Each subcommand that asks the agent, from its words to what the agent is asked, and from the
// answer to output and exit status. The agent is a fake: see tests/support/fake_agent.h.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "sys/files.h"
#include "tests/e2e/ask_agent.h"
#include "tests/support/child.h"

namespace procguard::test {
namespace {

// What the descriptor of a request is of: "Pid:\t42" of its fdinfo.
pid_t pid_of(const sys::Fd& fd) {
  const auto text = sys::read_file("/proc/self/fdinfo/" + std::to_string(fd.get()));
  const std::size_t at = text ? text->find("\nPid:") : std::string::npos;
  return at == std::string::npos ? -1 : std::stoi(text->substr(at + 5));
}

// --- attach -------------------------------------------------------------------------------------

Records armed(const Asked& asked) {
  return {answer_to<proto::ArmedBody>(asked, {{.id = 12, .pid = 1}})};
}

TEST(AgentCommands, AttachSendsAPidfdAndPrintsTheNumber) {
  const Child child(pause_forever);
  const std::string pid = std::to_string(child.pid());
  struct Row {
    const char* option;
    pg_scope scope;
  };
  for (const Row& row : {Row{"--pid", PG_SCOPE_PROCESS}, Row{"--tree", PG_SCOPE_TREE},
                         Row{"--tid", PG_SCOPE_THREAD}}) {
    FakeAgent agent(armed);
    const Outcome outcome = ask(agent, {"attach", row.option, pid, "-t", "10m", "--name", "job"});
    EXPECT_EQ(outcome.status(), 0) << outcome.describe();
    EXPECT_EQ(outcome.out, "g12\n") << "for scripts: nothing else";
    EXPECT_EQ(outcome.err, "");
    const auto asked = agent.take_asked();
    ASSERT_EQ(asked.size(), 1U);
    const auto body = asked[0].one<proto::AttachBody>();
    ASSERT_TRUE(body && asked[0].op() == proto::Op::kAttach);
    EXPECT_EQ(body->scope, static_cast<std::uint32_t>(row.scope));
    EXPECT_EQ(body->pid, 0U);
    EXPECT_EQ(body->tid,
              row.scope == PG_SCOPE_THREAD ? static_cast<std::uint32_t>(child.pid()) : 0U);
    EXPECT_EQ(body->limit[PG_TIMEOUT], 600 * core::kSecond);
    ASSERT_EQ(asked[0].fds.size(), 1U);
    EXPECT_EQ(pid_of(asked[0].fds[0]), child.pid());
  }
}

TEST(AgentCommands, AttachSendsTheDirectoryOfACgroup) {
  TempCgroup cgroup;
  const std::string id = "0123456789abcdef" + std::to_string(::getpid());
  const std::string container = cgroup.make_child("libpod-" + id + ".scope");
  struct Row {
    Strings words;
    std::string path;
  };
  const Row rows[] = {{{"--cgroup", cgroup.path()}, cgroup.path()},
                      {{"--container", id}, container},
                      {{"--container", id.substr(0, id.size() - 1)}, container}};
  for (const Row& row : rows) {
    FakeAgent agent(armed);
    Strings words = {"attach", "-m", "1G"};
    words.insert(words.end(), row.words.begin(), row.words.end());
    const Outcome outcome = ask(agent, words);
    EXPECT_EQ(outcome.status(), 0) << outcome.describe();
    const auto asked = agent.take_asked();
    ASSERT_EQ(asked.size(), 1U);
    ASSERT_EQ(asked[0].fds.size(), 1U);
    struct stat sent {};
    struct stat meant {};
    ASSERT_EQ(::fstat(asked[0].fds[0].get(), &sent), 0);
    ASSERT_EQ(::stat(row.path.c_str(), &meant), 0);
    EXPECT_EQ(sent.st_ino, meant.st_ino) << row.path;
    EXPECT_EQ(asked[0].one<proto::AttachBody>()->scope,
              static_cast<std::uint32_t>(PG_SCOPE_CGROUP));
  }
}

TEST(AgentCommands, AttachToWhatIsNot) {
  const FakeAgent agent(armed);
  struct Row {
    Strings words;
    int status;
    const char* mentions;
  };
  const Row rows[] = {
      {{"--pid", "2147483647"}, 1, "no process 2147483647"},
      {{"--tid", "2147483647"}, 1, "no thread 2147483647"},
      {{"--cgroup", "/sys/fs/cgroup/unified/no-such-cgroup"}, 1, "no-such-cgroup"},
      {{"--cgroup", "/sys/fs/cgroup/memory"}, 2, "/sys/fs/cgroup/unified"},
      {{"--cgroup", "/tmp"}, 2, "/tmp"},
      {{"--container", "ffffffffffff0000"}, 1, "ffffffffffff0000"},
      {{"--container", "a/../b"}, 2, "a/../b"},
  };
  for (const Row& row : rows) {
    Strings words = {"attach", "-t", "1"};
    words.insert(words.end(), row.words.begin(), row.words.end());
    const Outcome outcome = ask(agent, words);
    EXPECT_EQ(outcome.status(), row.status) << outcome.describe();
    EXPECT_NE(outcome.err.find(row.mentions), std::string::npos) << outcome.describe();
    EXPECT_EQ(outcome.err.rfind("procguard: attach: ", 0), 0U) << outcome.describe();
    EXPECT_EQ(line_count(outcome.err), 1) << outcome.describe();
    EXPECT_EQ(outcome.out, "");
  }
}

TEST(AgentCommands, AttachAboveRamIsSaid) {
  FakeAgent agent(armed);
  const Outcome outcome = ask(agent, {"attach", "--pid", std::to_string(::getpid()), "-m", "900T"});
  EXPECT_EQ(outcome.status(), 0) << outcome.describe();
  EXPECT_EQ(outcome.out, "g12\n");
  EXPECT_NE(outcome.err.find("RAM"), std::string::npos) << outcome.describe();
}

// --- list, show, status -------------------------------------------------------------------------

TEST(AgentCommands, ListReadsAllPages) {
  for (const bool says_end : {true, false}) {
    FakeAgent agent([&](const Asked& asked) -> Records {
      const std::uint64_t after = asked.one<proto::ListBody>()->after;
      const std::uint16_t flags = says_end && after == 4 ? proto::kEnd : 0;
      if (after == 6) {
        return {answer_to<proto::RowBody>(asked, {})};
      }
      return {answer_to<proto::RowBody>(asked, {row_of(after + 1), row_of(after + 2)}, flags)};
    });
    const Outcome outcome = ask(agent, {"list", "--all", "-o", "json"});
    EXPECT_EQ(outcome.status(), 0) << outcome.describe();
    const Json guards = Json::parse(outcome.out).at("guards");
    ASSERT_EQ(guards.size(), 6U);
    EXPECT_EQ(guards.at(5).at("id"), "g6");
    const auto asked = agent.take_asked();
    EXPECT_EQ(asked.size(), says_end ? 3U : 4U);
    EXPECT_EQ(asked[0].one<proto::ListBody>()->ended, 1U);
  }
}

TEST(AgentCommands, ListAsATable) {
  FakeAgent agent([](const Asked& asked) -> Records {
    return {answer_to<proto::RowBody>(asked, {row_of(1)}, proto::kEnd)};
  });
  const Outcome table = ask(agent, {"list"});
  EXPECT_EQ(table.status(), 0) << table.describe();
  EXPECT_EQ(table.out.rfind("GUARD NAME", 0), 0U) << table.out;
  EXPECT_EQ(line_count(table.out), 3) << table.out;
  EXPECT_NE(ask(agent, {"list", "-o", "wide"}).out.find("LADDER"), std::string::npos);
  EXPECT_EQ(agent.take_asked()[0].one<proto::ListBody>()->ended, 0U);
}

TEST(AgentCommands, ListThatWouldNeverEnd) {
  FakeAgent agent([](const Asked& asked) -> Records {
    return {answer_to<proto::RowBody>(asked, {row_of(7)})};
  });
  const Outcome outcome = ask(agent, {"list"});
  EXPECT_EQ(outcome.status(), 3) << outcome.describe();
  EXPECT_EQ(outcome.out, "");
}

TEST(AgentCommands, ListIsWatchedUntilTheAgentEnds) {
  int asked_times = 0;
  FakeAgent agent([&](const Asked& asked) -> Records {
    return ++asked_times > 2 ? Records{}
                             : Records{answer_to<proto::RowBody>(asked, {row_of(1)}, proto::kEnd)};
  });
  const Outcome outcome = ask(agent, {"list", "--watch", "-o", "json"});
  EXPECT_EQ(outcome.status(), 3) << outcome.describe();
  EXPECT_EQ(line_count(outcome.out), 2) << outcome.describe();
}

Records shown(const Asked& asked) {
  proto::ShowBody show;
  show.row = row_of(12);
  proto::ThreadBody thread;
  thread.tid = 4242;
  return {answer_to<proto::ShowBody>(asked, {show}),
          answer_to<proto::ThreadBody>(asked, {thread, thread}, 0, proto::Op::kThreads),
          answer_to<proto::ThreadBody>(asked, {thread}, proto::kEnd, proto::Op::kThreads)};
}

TEST(AgentCommands, Show) {
  FakeAgent agent(shown);
  const Outcome json = ask(agent, {"show", "nightly", "-o", "json"});
  EXPECT_EQ(json.status(), 0) << json.describe();
  EXPECT_EQ(Json::parse(json.out).at("threads").size(), 3U);
  const Outcome text = ask(agent, {"show", "g12"});
  EXPECT_EQ(text.out.rfind("guard g12 'nightly'", 0), 0U) << text.describe();
  const auto asked = agent.take_asked();
  ASSERT_EQ(asked.size(), 2U);
  EXPECT_EQ(proto::get_text(asked[0].one<proto::RefBody>()->name), "nightly");
  EXPECT_EQ(asked[1].one<proto::RefBody>()->id, 12U);
}

TEST(AgentCommands, Status) {
  FakeAgent agent([](const Asked& asked) -> Records {
    proto::StatusBody status;
    status.pid = 77;
    return {answer_to<proto::StatusBody>(asked, {status})};
  });
  const Outcome text = ask(agent, {"status"});
  EXPECT_EQ(text.status(), 0) << text.describe();
  EXPECT_NE(text.out.find("pid 77"), std::string::npos) << text.out;
  EXPECT_EQ(Json::parse(ask(agent, {"status", "-o", "json"}).out).at("pid"), 77);
}

// --- set, pause, resume, release, progress ------------------------------------------------------

TEST(AgentCommands, Set) {
  FakeAgent agent(guard_again);
  const Outcome outcome = ask(agent, {"set", "g12", "-t", "2h", "--memory-growth", "1M"});
  EXPECT_EQ(outcome.status(), 0) << outcome.describe();
  EXPECT_EQ(outcome.out + outcome.err, "");
  const auto asked = agent.take_asked();
  ASSERT_EQ(asked.size(), 1U);
  const auto body = asked[0].one<proto::SetBody>();
  ASSERT_TRUE(body && asked[0].op() == proto::Op::kSet);
  EXPECT_EQ(body->guard.id, 12U);
  EXPECT_EQ(body->limit[PG_TIMEOUT], 7200 * core::kSecond);
  EXPECT_EQ(body->limit[PG_CPU], 0U);
  EXPECT_EQ(body->limit[PG_MEMORY_GROWTH], 1U << 20);
}

TEST(AgentCommands, EachGuardIsAskedFor) {
  struct Row {
    const char* command;
    proto::Op op;
  };
  for (const Row& row : {Row{"pause", proto::Op::kPause}, Row{"resume", proto::Op::kResume},
                         Row{"release", proto::Op::kRelease}}) {
    FakeAgent agent([](const Asked& asked) -> Records {
      return asked.one<proto::RefBody>()->id == 2
                 ? Records{refusal_of(asked, proto::Status::kNotFound, "no such guard")}
                 : guard_again(asked);
    });
    const Outcome outcome = ask(agent, {row.command, "g1", "g2", "job"});
    EXPECT_EQ(outcome.status(), 1) << outcome.describe();
    EXPECT_EQ(outcome.err, std::string("procguard: ") + row.command + ": g2: no such guard\n");
    const auto asked = agent.take_asked();
    ASSERT_EQ(asked.size(), 3U) << "the next one is asked for all the same";
    EXPECT_EQ(asked[2].op(), row.op);
    EXPECT_EQ(proto::get_text(asked[2].one<proto::RefBody>()->name), "job");
  }
}

TEST(AgentCommands, AProgramsOwnGuardIsItsPrograms) {
  FakeAgent agent([](const Asked& asked) -> Records {
    return {refusal_of(asked, proto::Status::kNotFound, "no such guard")};
  });
  const std::string shown = "g281474976710657";
  for (const Strings& words :
       {Strings{"show", shown}, Strings{"set", shown, "-t", "1"}, Strings{"release", shown}}) {
    const Outcome outcome = ask(agent, words);
    EXPECT_EQ(outcome.status(), 1) << outcome.describe();
    EXPECT_NE(outcome.err.find("only its program controls it"), std::string::npos)
        << outcome.describe();
  }
}

TEST(AgentCommands, ProgressOfTheGuardInTheEnvironment) {
  FakeAgent agent(guard_again);
  Command command = command_of(agent, {"progress"});
  EXPECT_EQ(run(command).status(), 2) << "there is none";
  command.env.emplace_back("PROCGUARD_GUARD=-odd");
  const Outcome outcome = run(command);
  EXPECT_EQ(outcome.status(), 0) << outcome.describe();
  command.argv.emplace_back("g7");
  EXPECT_EQ(run(command).status(), 0);
  const auto asked = agent.take_asked();
  ASSERT_EQ(asked.size(), 2U);
  EXPECT_EQ(asked[0].op(), proto::Op::kProgress);
  EXPECT_EQ(proto::get_text(asked[0].one<proto::RefBody>()->name), "-odd");
  EXPECT_EQ(asked[1].one<proto::RefBody>()->id, 7U);
}

// --- events -------------------------------------------------------------------------------------

Records two_events(const Asked& asked) {
  return {answer_to<proto::EventBody>(asked, {step_event(18, 0, PG_RESULT_SENT)}),
          answer_to<proto::EventBody>(asked, {step_event(19, 1, PG_RESULT_REFUSED)}, proto::kEnd)};
}

TEST(AgentCommands, Events) {
  FakeAgent agent(two_events);
  const Outcome text = ask(agent, {"events", "--since", "@17"});
  EXPECT_EQ(text.status(), 0) << text.describe();
  EXPECT_EQ(line_count(text.out), 2) << text.out;
  const Outcome json = ask(agent, {"events", "--filter", "event=step.failed", "-o", "json"});
  EXPECT_EQ(json.status(), 0) << json.describe();
  EXPECT_EQ(Json::parse(json.out).at("seq"), 19);
  const Outcome none = ask(agent, {"events", "--filter", "name=other"});
  EXPECT_EQ(none.status(), 1) << "nothing matched";
  EXPECT_EQ(none.out + none.err, "") << none.describe();
  const auto asked = agent.take_asked();
  ASSERT_EQ(asked.size(), 3U);
  EXPECT_EQ(asked[0].one<proto::EventsBody>()->since_seq, 17U);
  EXPECT_EQ(asked[0].header.flags, 0);
}

TEST(AgentCommands, EventsAsTheyHappen) {
  FakeAgent agent([](const Asked& asked) -> Records {
    return {answer_to<proto::EventBody>(asked, {}, proto::kEnd),
            answer_to<proto::EventBody>(asked, {step_event(18, 1, PG_RESULT_SENT)})};
  });
  Subprocess follower(command_of(agent, {"events", "--follow", "-o", "json"}));
  EXPECT_TRUE(follower.wait_for_output("\"seq\":18"));
  EXPECT_EQ(agent.take_asked()[0].header.flags, proto::kFollow);
  follower.send(SIGTERM);
  EXPECT_EQ(follower.wait().term_signal, SIGTERM) << "until it is ended";
}

TEST(AgentCommands, NobodyReadsTheEvents) {
  FakeAgent agent([](const Asked& asked) -> Records {
    return {answer_to<proto::EventBody>(asked, {step_event(18, 1, PG_RESULT_SENT)})};
  });
  // SIGPIPE ignored as under many a supervisor; head has what it wants after one line.
  Command command = command_of(agent, {});
  command.argv = {
      "bash", "-c",
      "trap '' PIPE; { " + procguard_binary() + " events -f; echo status $? >&2; } | head -n 1"};
  const Outcome outcome = run(command);
  EXPECT_FALSE(outcome.timed_out) << outcome.describe();
  EXPECT_EQ(outcome.err, "status 0\n") << outcome.describe();
}

}  // namespace
}  // namespace procguard::test
