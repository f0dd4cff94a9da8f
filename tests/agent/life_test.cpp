// SPDX-License-Identifier: Apache-2.0
// The life of an agent: one at a time, stopped, started again, of another version, with nothing to
// do.
#include <bpf/bpf.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <csignal>
#include <cstring>
#include <filesystem>

#include "sys/fd.h"
#include "tests/agent/agent_under_test.h"

namespace procguard::test {
namespace {

class AgentLife : public AgentTest {
 protected:
  Outcome another(const std::string& socket) const {
    return run(
        {.argv = {procguard_binary(), "agent", "--socket", socket, "--pin-dir", place_.pins}});
  }
  bool nothing_attached() const { return std::filesystem::is_empty(place_.pins + "/links"); }
};

TEST_F(AgentLife, ASecondOneIsRefused) {
  const Outcome same_pins = another(place_.directory + "/other.sock");
  EXPECT_EQ(same_pins.status(), 2) << same_pins.describe();
  EXPECT_NE(same_pins.err.find("another agent is running"), std::string::npos)
      << same_pins.describe();
  const Outcome torn =
      run({.argv = {procguard_binary(), "agent", "--teardown", "--pin-dir", place_.pins}});
  EXPECT_EQ(torn.status(), 2) << torn.describe();
  Sleeper target;
  EXPECT_NE(attach(process_guard().timeout(3600s), target.pid()), 0U) << "the first one goes on";
}

TEST_F(AgentLife, StoppedItLeavesGuardsForTheNext) {
  Sleeper target;
  const std::uint64_t id =
      attach(process_guard().timeout(3600s).ladder("TERM,KILL").name("stays"), target.pid());
  client_.reset();
  EXPECT_EQ(agent_->stop(), 0);
  EXPECT_TRUE(target.alive());
  start_agent();
  const auto shown = show(id);
  ASSERT_TRUE(shown);
  EXPECT_EQ(shown->row.guard.phase, static_cast<unsigned>(PG_GUARD_ARMED));
  ASSERT_EQ(set(id, PG_TIMEOUT, 1).status, proto::Status::kOk);
  EXPECT_NE(target.wait(), -1);
  const std::uint64_t later = attach(process_guard().timeout(3600s), Sleeper().pid());
  EXPECT_GT(later, id) << "ids are never used again";
}

TEST_F(AgentLife, PinsOfAnotherAbiAreRefusedAndKept) {
  Sleeper target;
  attach(process_guard().timeout(3600s), target.pid());
  client_.reset();
  agent_->stop();
  // The record's second number is the ABI.
  std::array<std::uint32_t, 8> record{};
  const std::uint32_t zero = 0;
  const sys::Fd map(bpf_obj_get((place_.pins + "/abi").c_str()));
  ASSERT_TRUE(map);
  ASSERT_EQ(bpf_map_lookup_elem(map.get(), &zero, record.data()), 0);
  record[1] += 1;
  ASSERT_EQ(bpf_map_update_elem(map.get(), &zero, record.data(), BPF_ANY), 0);
  const Outcome refused = another(place_.socket);
  EXPECT_EQ(refused.status(), 5) << refused.describe();
  EXPECT_NE(refused.err.find("ABI " + std::to_string(record[1])), std::string::npos)
      << refused.describe();
  EXPECT_NE(refused.err.find("--teardown"), std::string::npos) << refused.describe();
  record[1] -= 1;
  ASSERT_EQ(bpf_map_update_elem(map.get(), &zero, record.data(), BPF_ANY), 0);
  start_agent();
  EXPECT_EQ(list().size(), 1U) << "nothing was lost by the refusal";
}

TEST_F(AgentLife, NothingIsAttachedWhereNothingIsGuarded) {
  EXPECT_TRUE(nothing_attached());
  Sleeper target;
  const std::uint64_t id = attach(process_guard().timeout(3600s), target.pid());
  EXPECT_FALSE(nothing_attached());
  EXPECT_EQ(act(proto::Op::kRelease, id).status, proto::Status::kOk);
  EXPECT_TRUE(wait_until([this] { return nothing_attached(); }, 60s)) << "ten seconds later";
  EXPECT_NE(attach(process_guard().timeout(3600s), target.pid()), 0U) << "and again";
}

TEST_F(AgentLife, TellsTheServiceManager) {
  client_.reset();
  agent_->stop();
  const std::string path = place_.directory + "/notify";
  const sys::Fd manager(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
  ASSERT_EQ(::bind(manager.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  std::string heard;
  const auto hears = [&](const char* what) {
    return wait_until(
        [&] {
          std::array<char, 4096> text{};
          for (ssize_t n = 0; (n = ::recv(manager.get(), text.data(), text.size(), 0)) > 0;) {
            heard += std::string(text.data(), static_cast<std::size_t>(n)) + "\n";
          }
          return heard.find(what) != std::string::npos;
        },
        30s);
  };
  Subprocess agent(
      {.argv = {procguard_binary(), "agent", "--socket", place_.socket, "--pin-dir", place_.pins},
       .env = {"NOTIFY_SOCKET=" + path, "WATCHDOG_USEC=400000", "WATCHDOG_PID"},
       .deadline = 120s});
  EXPECT_TRUE(hears("READY=1")) << heard;
  EXPECT_TRUE(hears("WATCHDOG=1")) << heard;
  agent.send(SIGHUP);
  EXPECT_TRUE(hears("RELOADING=1")) << heard;
  agent.send(SIGTERM);
  EXPECT_EQ(agent.wait().status(), 0);
  EXPECT_TRUE(hears("STOPPING=1")) << heard;
  start_agent();
}

}  // namespace
}  // namespace procguard::test
