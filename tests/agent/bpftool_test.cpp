// SPDX-License-Identifier: Apache-2.0
// What an operator sees with bpftool, and that user/docs/bpftool.md shows the same.
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <sstream>

#include "sys/pidfd.h"
#include "tests/agent/agent_under_test.h"
#include "tests/support/peer.h"

namespace procguard::test {
namespace {

using nlohmann::json;

constexpr const char* kDefaultPins = "/sys/fs/bpf/procguard";

std::string bpftool() {
  return ::access("/usr/sbin/bpftool", X_OK) == 0 ? "/usr/sbin/bpftool" : "bpftool";
}

class Bpftool : public AgentTest {
 protected:
  // What it prints, as JSON.
  json asked(const std::vector<std::string>& words) {
    std::vector<std::string> argv{bpftool()};
    argv.insert(argv.end(), words.begin(), words.end());
    const Outcome outcome = run({.argv = argv});
    EXPECT_EQ(outcome.status(), 0) << outcome.describe();
    const json read = json::parse(outcome.out, nullptr, false);
    EXPECT_FALSE(read.is_discarded()) << outcome.out;
    return read;
  }
  json dump(const std::string& map) { return asked({"map", "dump", "pinned", pin(map)}); }
  std::string pin(const std::string& name) const { return place_.pins + "/" + name; }
  // The value of a process or thread with this number.
  json value_of(const std::string& map, pid_t key) {
    for (const json& each : dump(map)) {
      if (each.at("key") == key) {
        return each.at("value");
      }
    }
    ADD_FAILURE() << "no " << key << " in " << map;
    return {};
  }
  // Somebody who arms and releases guards of this name without end: whoever begins to listen hears
  // of one soon.
  Peer arms_and_releases(const std::string& name) {
    return Peer([this, name](Script&) {
      auto mine = proto::Client::connect(place_.socket).value();
      Wanted wanted = process_guard().timeout(1h).name(name);
      wanted.body.pid = static_cast<std::uint32_t>(fork_child(sleep_on));
      for (;;) {
        proto::Writer attach(proto::Op::kAttach, mine.request());
        attach.add(wanted.body);
        const auto armed = mine.call(attach)->one<proto::ArmedBody>();
        proto::Writer release(proto::Op::kRelease, mine.request());
        release.add(proto::RefBody{.id = armed ? armed->id : 0, .name = {}});
        static_cast<void>(mine.call(release));
        ::usleep(10000);
      }
    });
  }
};

TEST_F(Bpftool, TheGuardsMapHasLiveGuardsOnly) {
  Sleeper target;
  Sleeper other;
  const std::uint64_t id =
      attach(tree_guard().timeout(600s).memory(2ULL << 30).ladder("TERM:5s,KILL").name("nightly"),
             target.pid());
  const std::uint64_t over = attach(process_guard().timeout(1h), other.pid());
  act(proto::Op::kRelease, over);
  const json guards = dump("guards");
  ASSERT_EQ(guards.size(), 1U);
  EXPECT_EQ(guards[0].at("key"), id);
  const json& guard = guards[0].at("value");
  EXPECT_EQ(guard.at("pid"), target.pid());
  EXPECT_EQ(guard.at("name"), "nightly");
  EXPECT_EQ(guard.at("scope"), "PG_SCOPE_TREE");
  EXPECT_EQ(guard.at("mode"), "PG_MODE_ENFORCE");
  EXPECT_EQ(guard.at("phase"), "PG_GUARD_ARMED");
  EXPECT_EQ(guard.at("origin"), "PG_ORIGIN_ATTACH");
  EXPECT_EQ(guard.at("timeout").at("limit_ns"), 600'000'000'000);
  EXPECT_EQ(guard.at("timeout").at("phase"), "PG_LIMIT_WAITING");
  EXPECT_EQ(guard.at("timeout").at("due_ns"),
            guard.at("timeout").at("base_ns").get<std::uint64_t>() + 600'000'000'000);
  EXPECT_EQ(guard.at("memory").at("limit_bytes"), 2ULL << 30);
  EXPECT_EQ(guard.at("cpu").at("phase"), "PG_LIMIT_NONE");
  EXPECT_EQ(guard.at("ladder")[0].at("wait_ns"), 5'000'000'000);

  const json with_j = asked({"-j", "map", "dump", "pinned", pin("guards")});
  ASSERT_EQ(with_j.size(), 1U);
  EXPECT_EQ(with_j[0].at("formatted").at("value"), guard);
}

TEST_F(Bpftool, ProcessesAndThreads) {
  Sleeper target;
  attach(process_guard().memory(1ULL << 30), target.pid());
  const json process = value_of("processes", target.pid());
  EXPECT_EQ(process.at("parent_tgid"), ::getpid());
  EXPECT_EQ(process.at("threads"), 1);
  EXPECT_GT(process.at("rss_bytes")[PG_RSS_ANON].get<std::uint64_t>(), 0U);
  EXPECT_EQ(process.at("comm"), "agent") << "forked of this test";
  const json thread = value_of("threads", target.pid());
  EXPECT_EQ(thread.at("tid"), target.pid());
  EXPECT_TRUE(thread.at("usage").contains("cpu_ns"));
  EXPECT_TRUE(thread.at("usage").contains("grown_bytes"));
}

TEST_F(Bpftool, ProgramsAndLinksHaveNames) {
  Sleeper target;
  attach(process_guard().memory(1ULL << 30), target.pid());
  for (const char* name : {"pg_sched_switch", "pg_rss_stat", "pg_task_newtask"}) {
    const json program = asked({"-j", "prog", "show", "pinned", pin("programs/") + name});
    EXPECT_EQ(program.at("name").get<std::string>(), std::string(name).substr(0, 15));
    const json link = asked({"-j", "link", "show", "pinned", pin("links/") + name});
    EXPECT_EQ(link.at("prog_id"), program.at("id"));
  }
}

// The records of `bpftool map event_pipe`, of which it prints the bytes.
std::vector<pg_event> records(const std::string& text) {
  std::vector<pg_event> all;
  std::vector<unsigned char> bytes;
  const auto end = [&] {
    if (bytes.size() >= sizeof(pg_event)) {
      std::memcpy(&all.emplace_back(), bytes.data(), sizeof(pg_event));
    }
    bytes.clear();
  };
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("==")) {
      end();
      continue;
    }
    std::istringstream words(line);
    for (unsigned byte = 0; words >> std::hex >> byte;) {
      bytes.push_back(static_cast<unsigned char>(byte));
    }
  }
  end();
  return all;
}

TEST_F(Bpftool, EventPipeHasARecordForEachEvent) {
  Subprocess pipe(
      {.argv = {"stdbuf", "-oL", bpftool(), "map", "event_pipe", "pinned", pin("events")}});
  {
    const Peer noise = arms_and_releases("noise");
    ASSERT_TRUE(pipe.wait_for_output("== @")) << "it listens";
  }
  Sleeper target;
  const std::uint64_t id = attach(process_guard().timeout(50ms).name("tripped"), target.pid());
  ASSERT_TRUE(event(id, PG_EVENT_TARGET_EXITED));
  Sleeper last;
  attach(process_guard().timeout(1h).name("the-last"), last.pid());
  EXPECT_TRUE(pipe.wait_for_output("74 68 65 2d 6c 61 73 74")) << "its name";
  pipe.send(SIGINT);
  std::vector<std::uint32_t> kinds;
  for (const pg_event& each : records(pipe.wait().out)) {
    if (each.guard == id) {
      EXPECT_EQ(each.abi, static_cast<unsigned>(PG_ABI));
      EXPECT_EQ(each.pid, static_cast<unsigned>(target.pid()));
      EXPECT_STREQ(each.name, "tripped");
      kinds.push_back(each.kind);
    }
  }
  EXPECT_EQ(kinds,
            (std::vector<std::uint32_t>{PG_EVENT_ARMED, PG_EVENT_STEP, PG_EVENT_TARGET_EXITED}));
}

// In a mount namespace of its own: where tracefs is not mounted, bpftool does it.
TEST_F(Bpftool, TracelogHasALineForEachEvent) {
  const std::string name = "trace-" + std::to_string(::getpid());
  Subprocess log({.argv = {"unshare", "-m", "stdbuf", "-oL", bpftool(), "prog", "tracelog"}});
  const Peer noise = arms_and_releases(name);
  EXPECT_TRUE(log.wait_for_output("'" + name + "' armed on pid "));
  EXPECT_TRUE(log.wait_for_output("'" + name + "' released"));
  log.send(SIGINT);
}

// ---- the page

struct Shown {
  std::string command;
  std::string output;
};

// The "# command" lines of its blocks, each with what is shown below it.
std::vector<Shown> shown_in(const std::filesystem::path& page) {
  std::vector<Shown> all;
  std::ifstream file(page);
  bool block = false;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("```")) {
      block = !block;
    } else if (block && line.starts_with("# ")) {
      all.push_back({.command = line.substr(2), .output = ""});
    } else if (block && !all.empty()) {
      all.back().output += line + "\n";
    }
  }
  return all;
}

// The names of fields: "name": in JSON, where most outputs are of that kind.
std::set<std::string> fields_of(const std::string& text) {
  static const std::regex kField("\"([.a-z_]+)\":");
  std::set<std::string> names;
  for (std::sregex_iterator at(text.begin(), text.end(), kField), end; at != end; ++at) {
    names.insert((*at)[1]);
  }
  return names;
}

TEST_F(Bpftool, ThePageShowsWhatThereIs) {
  const auto page = std::filesystem::current_path() / "user/docs/bpftool.md";
  const auto all = shown_in(page);
  ASSERT_GE(all.size(), 8U) << page;
  Sleeper target;
  Wanted wanted = tree_guard().timeout(600s).memory(2ULL << 30).name("nightly");
  proto::put_text(wanted.body.labels, "job=42");
  attach(wanted, target.pid());
  for (const Shown& each : all) {
    SCOPED_TRACE(each.command);
    std::string command = each.command;
    for (std::size_t at = 0; (at = command.find(kDefaultPins, at)) != std::string::npos;) {
      command.replace(at, std::strlen(kDefaultPins), place_.pins);
      at += place_.pins.size();
    }
    const bool goes_on = command.find("event_pipe") != std::string::npos ||
                         command.find("tracelog") != std::string::npos;
    if (goes_on) {
      command = "unshare -m timeout --preserve-status -s INT 2 " + command;
    }
    const Outcome outcome = run({.argv = {"bash", "-c", command}});
    EXPECT_EQ(outcome.status(), 0) << outcome.describe();
    const auto real = fields_of(outcome.out);
    for (const std::string& field : fields_of(each.output)) {
      EXPECT_TRUE(real.contains(field)) << field << " is not in\n" << outcome.out;
    }
  }
}

}  // namespace
}  // namespace procguard::test
