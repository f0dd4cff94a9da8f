// SPDX-License-Identifier: Apache-2.0
// An agent with all the guards a host may have: 20 on each of 5,000 processes.
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "core/ladder.h"
#include "proto/client.h"
#include "sys/files.h"
#include "sys/monotonic_clock.h"
#include "sys/procfs.h"
#include "tests/bench/command.h"
#include "tests/bench/concepts.h"
#include "tests/bench/idle.h"
#include "tests/bench/samples.h"

namespace procguard::bench {
namespace {

constexpr std::size_t kBatch = 120;  // bodies a record
constexpr core::Ns kHour = 3600 * core::kSecond;

core::Ns now() {
  return sys::MonotonicClock().now();
}

// Sleeping processes; ended and reaped with it.
class Sleepers {
 public:
  explicit Sleepers(int count) {
    for (int i = 0; i < count; ++i) {
      const pid_t pid = ::fork();
      if (pid == 0) {
        for (;;) {
          ::pause();
        }
      }
      pids_.push_back(pid);
    }
  }
  Sleepers(const Sleepers&) = delete;
  Sleepers& operator=(const Sleepers&) = delete;
  ~Sleepers() {
    for (const pid_t pid : pids_) {
      ::kill(pid, SIGKILL);
    }
    for (const pid_t pid : pids_) {
      ::waitpid(pid, nullptr, 0);
    }
  }
  const std::vector<pid_t>& pids() const { return pids_; }

 private:
  std::vector<pid_t> pids_;
};

// An agent of its own, with few files; torn down with it.
class OwnAgent {
 public:
  explicit OwnAgent(const std::string& binary) : binary_(binary) {
    const std::string name = "procguard-bench-" + std::to_string(::getpid());
    socket_ = "/tmp/" + name + ".sock";
    pins_ = "/sys/fs/bpf/" + name;
    auto pid = spawn({binary_, "agent", "--socket", socket_, "--pin-dir", pins_});
    pid_ = pid ? pid.value() : -1;
    const rlimit files{1024, 1024};
    ::prlimit(pid_, RLIMIT_NOFILE, &files, nullptr);
  }
  OwnAgent(const OwnAgent&) = delete;
  OwnAgent& operator=(const OwnAgent&) = delete;
  ~OwnAgent() {
    ::kill(pid_, SIGTERM);
    ::waitpid(pid_, nullptr, 0);
    auto torn = spawn({binary_, "agent", "--teardown", "--pin-dir", pins_});
    if (torn) {
      ::waitpid(torn.value(), nullptr, 0);
    }
  }
  pid_t pid() const { return pid_; }
  Result<proto::Client> connect() const {
    for (int i = 0; i < 200; ++i) {
      auto client = proto::Client::connect(socket_);
      if (client) {
        return client;
      }
      ::usleep(50'000);
    }
    return proto::Client::connect(socket_);
  }

 private:
  std::string binary_;
  std::string socket_;
  std::string pins_;
  pid_t pid_ = -1;
};

proto::AttachBody guard(pid_t pid, core::Ns timeout) {
  proto::AttachBody body;
  body.scope = PG_SCOPE_PROCESS;
  body.pid = static_cast<std::uint32_t>(pid);
  body.limit[PG_TIMEOUT] = timeout;
  body.ladder[0] = core::parse_ladder("KILL").value()[0];
  body.steps = 1;
  return body;
}

// One record's way there and back, in ns a body; and the reply's bodies.
template <typename Reply, typename Body>
Result<std::vector<Reply>> ask(proto::Client& client, proto::Op op, const std::vector<Body>& bodies,
                               Samples& each) {
  proto::Writer request(op, client.request());
  for (const Body& body : bodies) {
    request.add(body);
  }
  const core::Ns begin = now();
  auto reply = client.call(request);
  each.add(static_cast<double>(now() - begin) / static_cast<double>(bodies.size()));
  if (!reply) {
    return reply.error();
  }
  auto all = reply->template as<Reply>();
  if (reply->op() == proto::Op::kError || !all) {
    return Error("the agent refused: " + proto::refusal(reply.value()).text);
  }
  return std::move(*all);
}

Result<std::vector<std::uint64_t>> arm(proto::Client& client,
                                       const std::vector<proto::AttachBody>& wanted,
                                       Samples& each) {
  std::vector<std::uint64_t> ids;
  for (std::size_t at = 0; at < wanted.size(); at += kBatch) {
    const auto end = std::min(at + kBatch, wanted.size());
    auto armed = ask<proto::ArmedBody>(
        client, proto::Op::kAttach,
        std::vector<proto::AttachBody>(wanted.begin() + static_cast<std::ptrdiff_t>(at),
                                       wanted.begin() + static_cast<std::ptrdiff_t>(end)),
        each);
    if (!armed) {
      return armed.error();
    }
    for (const proto::ArmedBody& one : armed.value()) {
      ids.push_back(one.id);
    }
  }
  return ids;
}

Result<void> release(proto::Client& client, const std::vector<std::uint64_t>& ids, std::size_t a,
                     Samples& each) {
  for (std::size_t at = 0; at < ids.size(); at += a) {
    std::vector<proto::RefBody> refs;
    for (std::size_t i = at; i < std::min(at + a, ids.size()); ++i) {
      refs.push_back({.id = ids[i], .name = {}});
    }
    if (auto done = ask<proto::GuardBody>(client, proto::Op::kRelease, refs, each); !done) {
      return done.error();
    }
  }
  return {};
}

// A bare program that sends back what it gets, over the same kind of socket.
double bare_round_trip() {
  int pair[2];
  Samples trips;
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
    return 0;
  }
  std::thread echo([fd = pair[1]] {
    char record[1024];
    for (ssize_t size = 0; (size = ::recv(fd, record, sizeof(record), 0)) > 0;) {
      ::send(fd, record, static_cast<std::size_t>(size), 0);
    }
  });
  char record[sizeof(proto::Header) + sizeof(proto::AttachBody)] = {};
  for (int i = 0; i < 2000; ++i) {
    const core::Ns begin = now();
    ::send(pair[0], record, sizeof(record), 0);
    ::recv(pair[0], record, sizeof(record), 0);
    trips.add(static_cast<double>(now() - begin));
  }
  ::close(pair[0]);
  echo.join();
  ::close(pair[1]);
  return trips.median();
}

// How late the steps were: by their events.
Result<Samples> lateness(proto::Client& client, std::uint64_t since) {
  Samples late;
  proto::Writer request(proto::Op::kEvents, client.request());
  request.add(proto::EventsBody{.since_seq = since, .since_real_ns = 0, .guard = 0});
  for (auto reply = client.call(request);; reply = client.next()) {
    if (!reply) {
      return reply.error();
    }
    const auto events = reply->as<proto::EventBody>();
    for (const proto::EventBody& each : events ? *events : std::vector<proto::EventBody>()) {
      if (each.event.kind == PG_EVENT_STEP) {
        late.add(static_cast<double>(each.event.at_ns - each.event.due_ns));
      }
    }
    if (!events || reply->has(proto::kEnd)) {
      return late;
    }
  }
}

std::uint64_t last_event(proto::Client& client) {
  proto::Writer request(proto::Op::kStatus, client.request());
  const auto reply = client.call(request);
  const auto status = reply ? reply->one<proto::StatusBody>() : std::nullopt;
  return status ? status->events : 0;
}

double resident_kib(pid_t pid) {
  const auto bytes = sys::ProcRoot().rss_bytes(pid);
  return bytes ? static_cast<double>(bytes.value()) / 1024 : 0;
}

// `count` targets' deadlines, one a millisecond, from half a second on.
Result<Samples> trip(proto::Client& client, const std::vector<pid_t>& pids, std::size_t count) {
  const std::uint64_t before = last_event(client);
  Samples unused;
  const core::Ns first = now() + 500 * core::kMillisecond + count * 100 * core::kMicrosecond;
  for (std::size_t at = 0; at < count; at += kBatch) {
    std::vector<proto::AttachBody> batch;
    for (std::size_t i = at; i < std::min(at + kBatch, count); ++i) {
      batch.push_back(guard(pids[i], first + i * core::kMillisecond - now()));
    }
    if (auto armed = arm(client, batch, unused); !armed) {
      return armed.error();
    }
  }
  ::usleep(static_cast<useconds_t>((first + count * core::kMillisecond - now()) / 1000 + 500'000));
  return lateness(client, before);
}

// How long it takes to list them all, in ns a guard.
Result<double> list_all(proto::Client& client, std::size_t count) {
  const core::Ns begin = now();
  std::size_t rows = 0;
  std::uint64_t after = 0;
  for (bool more = true; more;) {
    proto::Writer request(proto::Op::kList, client.request());
    request.add(proto::ListBody{.after = after, .ended = 0, .padding = 0});
    const auto reply = client.call(request);
    const auto some = reply ? reply->as<proto::RowBody>() : std::nullopt;
    if (!some) {
      return Error("listing the guards failed");
    }
    rows += some->size();
    after = some->empty() ? after : some->back().guard.id;
    more = !some->empty() && !reply->has(proto::kEnd);
  }
  if (rows != count) {
    return Error("listed " + std::to_string(rows) + " guards of " + std::to_string(count));
  }
  return static_cast<double>(now() - begin) / static_cast<double>(rows);
}

struct Figures {
  Samples arm, arm_batch, release, release_batch, few, many;
  double bare = 0, memory = 0, files = 0, list = 0;
  Activity idle;
};

Result<void> measure_all(const Settings& settings, const OwnAgent& agent, proto::Client& client,
                         Figures& got) {
  const Sleepers few(10);
  const Sleepers all(settings.rounds(5000, 500));
  got.bare = bare_round_trip();
  std::vector<std::uint64_t> singles;
  for (int i = 0; i < 500; ++i) {
    auto one = arm(client, {guard(all.pids()[static_cast<std::size_t>(i)], kHour)}, got.arm);
    if (!one) {
      return one.error();
    }
    singles.push_back(one->front());
  }
  if (auto done = release(client, singles, 1, got.release); !done) {
    return done;
  }
  auto late_few = trip(client, few.pids(), 10);
  std::vector<proto::AttachBody> wanted;
  for (const pid_t pid : all.pids()) {
    wanted.insert(wanted.end(), 20, guard(pid, kHour));
  }
  auto ids = arm(client, wanted, got.arm_batch);
  if (!late_few || !ids) {
    return ids ? late_few.error() : ids.error();
  }
  got.few = std::move(late_few).value();
  got.memory = resident_kib(agent.pid());
  auto idle = idle_for(agent.pid(), static_cast<unsigned>(settings.rounds(10, 3)));
  auto listed = list_all(client, ids->size());
  if (!idle || !listed) {
    return idle ? listed.error() : idle.error();
  }
  got.idle = idle.value();
  got.list = listed.value();
  auto late_many = trip(client, all.pids(), all.pids().size() / 2);
  if (!late_many) {
    return late_many.error();
  }
  got.many = std::move(late_many).value();
  const auto files = sys::list_directory("/proc/" + std::to_string(agent.pid()) + "/fd");
  got.files = files ? static_cast<double>(files->size()) : 0;
  ids->erase(ids->begin(), ids->begin() + static_cast<std::ptrdiff_t>(ids->size() / 2));
  return release(client, ids.value(), kBatch, got.release_batch);
}

}  // namespace

Result<Rows> measure_agent(const Settings& settings) {
  const OwnAgent agent(settings.procguard);
  auto client = agent.connect();
  if (!client) {
    return client.error();
  }
  Figures got;
  if (auto measured = measure_all(settings, agent, client.value(), got); !measured) {
    return measured.error();
  }
  const std::string held = "a request checks its target in /proc, and tells of what it did";
  const auto trip_row = [&](const char* what, const Samples& each, double limit) {
    return Row{.what = what,
               .ours = each.median(),
               .reference = got.bare,
               .bar = Bar::ratio(limit),
               .note = "a bare SEQPACKET round trip beside",
               .held_by = held};
  };
  return Rows{trip_row("arm over the socket", got.arm, 3),
              trip_row("release over the socket", got.release, 3),
              trip_row("arm, of 120 in a record", got.arm_batch, 3),
              trip_row("release, of 120 in a record", got.release_batch, 3),
              {.what = "list, a guard", .ours = got.list},
              {.what = "idle agent with all guards, wake-ups",
               .unit = Unit::kCount,
               .ours = got.idle.switches,
               .bar = Bar::at_most(0)},
              {.what = "idle agent with all guards, CPU ticks",
               .unit = Unit::kCount,
               .ours = got.idle.ticks,
               .bar = Bar::at_most(0)},
              {.what = "trips at 1,000/s, p99 late",
               .ours = got.many.percentile(99),
               .reference = got.few.percentile(99),
               .bar = Bar::ratio(10),
               .note = std::to_string(got.many.count()) +
                       " of the trips still in the agent's log; beside: 10 guards"},
              {.what = "agent with all guards, RSS",
               .unit = Unit::kKibibytes,
               .ours = got.memory,
               .bar = Bar::at_most(100 * 1024),
               .note = "20 guards on each process"},
              {.what = "agent with all guards, files",
               .unit = Unit::kCount,
               .ours = got.files,
               .bar = Bar::at_most(511),
               .note = "RLIMIT_NOFILE is 1,024"}};
}

}  // namespace procguard::bench
