// SPDX-License-Identifier: Apache-2.0
// Many clients, many guards: nothing is lost, and whoever only waits costs nothing.
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <map>
#include <random>
#include <sstream>
#include <thread>

#include "sys/files.h"
#include "sys/procfs.h"
#include "tests/agent/agent_under_test.h"
#include "tests/agent/ends.h"

namespace procguard::test {
namespace {

// What all threads of a process have used.
struct Used {
  std::uint64_t switches = 0;  // voluntary
  std::uint64_t ticks = 0;
  bool operator==(const Used&) const = default;
};

Used used_by(pid_t pid) {
  Used used;
  const sys::ProcRoot proc;
  const std::vector<pid_t> tids = proc.threads(pid).value();
  for (const pid_t tid : tids) {
    const std::string task = "/proc/" + std::to_string(pid) + "/task/" + std::to_string(tid);
    std::ifstream status(task + "/status");
    for (std::string line; std::getline(status, line);) {
      if (line.starts_with("voluntary_ctxt_switches:")) {
        used.switches += std::stoull(line.substr(line.find(':') + 1));
      }
    }
    std::ifstream stat(task + "/stat");
    std::string text;
    if (!std::getline(stat, text)) {
      continue;  // it has ended meanwhile
    }
    std::istringstream fields(text.substr(text.rfind(')') + 2));
    std::string field;
    for (int number = 3; number <= 15 && fields >> field; ++number) {
      used.ticks += number >= 14 ? std::stoull(field) : 0;  // utime, stime
    }
  }
  return used;
}

class AgentLoad : public AgentTest {
 protected:
  // As many guards as there are bodies, in one record; targets by number, as root may.
  std::vector<std::uint64_t> arm(proto::Client& client,
                                 const std::vector<proto::AttachBody>& bodies);
  std::vector<std::uint64_t> arm_all(const std::vector<Sleeper>& targets, int each,
                                     const Wanted& wanted);
  void idle_for(std::chrono::seconds length);
};

std::vector<std::uint64_t> AgentLoad::arm(proto::Client& client,
                                          const std::vector<proto::AttachBody>& bodies) {
  proto::Writer request(proto::Op::kAttach, client.request());
  for (const proto::AttachBody& body : bodies) {
    EXPECT_TRUE(request.add(body));
  }
  const auto reply = client.call(request);
  const auto armed = reply ? reply->as<proto::ArmedBody>() : std::nullopt;
  std::vector<std::uint64_t> ids;
  if (!armed || reply->op() != proto::Op::kAttach) {
    ADD_FAILURE() << (reply ? proto::refusal(reply.value()).text : reply.error().message());
    return ids;
  }
  for (const proto::ArmedBody& one : *armed) {
    ids.push_back(one.id);
  }
  return ids;
}

std::vector<std::uint64_t> AgentLoad::arm_all(const std::vector<Sleeper>& targets, int each,
                                              const Wanted& wanted) {
  std::vector<std::uint64_t> ids;
  std::vector<proto::AttachBody> batch;
  const auto flush = [&] {
    const auto more = batch.empty() ? std::vector<std::uint64_t>{} : arm(client(), batch);
    ids.insert(ids.end(), more.begin(), more.end());
    batch.clear();
  };
  for (const Sleeper& target : targets) {
    for (int i = 0; i < each; ++i) {
      batch.push_back(wanted.body);
      batch.back().pid = static_cast<std::uint32_t>(target.pid());
      if (batch.size() == 120) {
        flush();
      }
    }
  }
  flush();
  return ids;
}

// The state of a guard as the operations on it leave it.
struct Expected {
  std::uint64_t timeout = 0;
  bool paused = false;
  bool released = false;
};

constexpr core::Ns kHour = 3600 * core::kSecond;

// One client's operations on guards of its own; what they should have come to.
class Busy {
 public:
  Busy(proto::Client client, const std::vector<std::uint64_t>& ids, unsigned seed)
      : client_(std::move(client)), dice_(seed) {
    for (const std::uint64_t id : ids) {
      guards_[id].timeout = kHour;
      ids_.push_back(id);
    }
  }
  void work(int operations) {
    for (int i = 0; i < operations; ++i) {
      one();
    }
  }
  const std::map<std::uint64_t, Expected>& guards() const { return guards_; }
  int refused() const { return refused_; }

 private:
  void one() {
    const std::uint64_t id = ids_[dice_() % ids_.size()];
    Expected& guard = guards_[id];
    switch (dice_() % 16) {
      case 0:
        if (ids_.size() > 4) {
          act(proto::Op::kRelease, id);
          guard.released = true;
          std::erase(ids_, id);
        }
        return;
      case 1:
      case 2:
      case 3:
        act(proto::Op::kPause, id);
        guard.paused = true;
        return;
      case 4:
      case 5:
      case 6:
        act(proto::Op::kResume, id);
        guard.paused = false;
        return;
      case 7:
      case 8:
      case 9:
        act(proto::Op::kProgress, id);
        return;
      default:
        guard.timeout = kHour + (dice_() % 1000) * core::kSecond;
        set(id, guard.timeout);
    }
  }
  void act(proto::Op op, std::uint64_t id) {
    proto::Writer request(op, client_.request());
    request.add(proto::RefBody{.id = id, .name = {}});
    note(request);
  }
  void set(std::uint64_t id, std::uint64_t timeout) {
    proto::SetBody body;
    body.guard.id = id;
    body.limit[PG_TIMEOUT] = timeout;
    proto::Writer request(proto::Op::kSet, client_.request());
    request.add(body);
    note(request);
  }
  void note(proto::Writer& request) {
    const auto reply = client_.call(request);
    refused_ += reply && reply->op() != proto::Op::kError ? 0 : 1;
  }

  proto::Client client_;
  std::mt19937 dice_;
  std::vector<std::uint64_t> ids_;  // not released
  std::map<std::uint64_t, Expected> guards_;
  int refused_ = 0;
};

TEST_F(AgentLoad, OperationsOfManyClientsLoseNothing) {
  constexpr int kClients = 4;
  constexpr int kOperations = 2000;
  const std::vector<Sleeper> targets(8);
  const auto wanted = process_guard().timeout(3600s).memory(1ULL << 40);
  std::vector<Busy> busy;
  for (unsigned i = 0; i < kClients; ++i) {
    busy.emplace_back(connect(), arm_all(targets, 4, wanted), i);
  }
  std::vector<std::thread> threads;
  for (Busy& each : busy) {
    threads.emplace_back([&each] { each.work(kOperations); });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  std::map<std::uint64_t, pg_guard> live;
  for (const proto::RowBody& row : list()) {
    live[row.guard.id] = row.guard;
  }
  std::size_t not_released = 0;
  for (const Busy& each : busy) {
    EXPECT_EQ(each.refused(), 0);
    for (const auto& [id, expected] : each.guards()) {
      EXPECT_EQ(live.contains(id), !expected.released) << id;
      if (!expected.released && live.contains(id)) {
        ++not_released;
        EXPECT_EQ(live[id].limit[PG_TIMEOUT].limit, expected.timeout) << id;
        EXPECT_EQ(live[id].paused_ns != 0, expected.paused) << id;
      }
    }
  }
  EXPECT_EQ(live.size(), not_released);
  for (const Sleeper& each : targets) {
    EXPECT_TRUE(each.alive());
  }
}

// A moment in which nothing at all is left to do, then the time itself.
void AgentLoad::idle_for(std::chrono::seconds length) {
  const pid_t agent = agent_->pid();
  Used before = used_by(agent);
  ASSERT_TRUE(wait_until(
      [&] {
        sleep_ns(200 * core::kMillisecond);
        return std::exchange(before, used_by(agent)) == used_by(agent);
      },
      20s));
  before = used_by(agent);
  sleep_ns(static_cast<core::Ns>(std::chrono::nanoseconds(length).count()));
  const Used after = used_by(agent);
  EXPECT_EQ(after.switches - before.switches, 0U);
  EXPECT_EQ(after.ticks - before.ticks, 0U);
}

TEST_F(AgentLoad, TenThousandIdleGuardsCostNothing) {
  const std::vector<Sleeper> targets(500);
  const auto ids = arm_all(targets, 20, process_guard().timeout(3600s));
  ASSERT_EQ(ids.size(), 10000U);
  idle_for(3s);
  EXPECT_EQ(list().size(), ids.size());
}

// The agent holds no descriptor for each of its targets.
TEST_F(AgentLoad, FewFilesAreEnough) {
  const rlimit few{1024, 1024};
  ASSERT_EQ(::prlimit(agent_->pid(), RLIMIT_NOFILE, &few, nullptr), 0);
  constexpr std::size_t kTargets = 1500;
  const std::vector<Sleeper> targets(kTargets);
  const auto ids = arm_all(targets, 1, process_guard().timeout(5s));
  ASSERT_EQ(ids.size(), kTargets);
  const auto files = sys::list_directory("/proc/" + std::to_string(agent_->pid()) + "/fd");
  ASSERT_TRUE(files.ok());
  EXPECT_LT(files->size(), 512U);
  EXPECT_TRUE(wait_until([&] { return list().empty(); }, 60s));
  for (const Sleeper& each : targets) {
    EXPECT_TRUE(wait_until([&] { return !each.alive(); }, 20s)) << each.pid();
  }
}

}  // namespace
}  // namespace procguard::test
