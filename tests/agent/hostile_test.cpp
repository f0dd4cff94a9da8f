// SPDX-License-Identifier: Apache-2.0
// Mutated messages: whatever comes in at the socket, the agent goes on, and keeps nothing of it.
// PROCGUARD_TEST_MUTATIONS: how many (default 30,000); PROCGUARD_TEST_SEED: the same ones again.
#include <dirent.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <iterator>
#include <random>

#include "proto/page.h"
#include "sys/pidfd.h"
#include "sys/procfs.h"
#include "sys/seqpacket.h"
#include "tests/agent/as_user.h"
#include "tests/support/test_cgroup.h"

namespace procguard::test {
namespace {

using proto::Bytes;
using proto::Op;

// What the agent has attached changes with what is guarded: that many files more or less.
constexpr std::size_t kLinks = 16;
constexpr std::size_t kLongest = std::size_t{96} * 1024;  // more than a record may have

std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

// Valid records of every kind, changed at random.
class Mutator {
 public:
  explicit Mutator(std::uint64_t seed) : random_(seed) {}

  std::uint64_t below(std::uint64_t bound) { return random_() % bound; }

  Bytes next(std::uint64_t guard) {
    Bytes record = valid(guard);
    for (std::uint64_t i = 0, times = below(3); i <= times; ++i) {
      mutate(record);
    }
    return record;
  }

 private:
  // A number of the kind that breaks arithmetic, or not.
  std::uint64_t odd_number() {
    const std::uint64_t odd[] = {0,          1,          2,          7,          0xff,
                                 0xffff,     0x7fffffff, 1ULL << 31, 0xffffffff, 1ULL << 32,
                                 1ULL << 48, INT64_MAX,  1ULL << 63, ~0ULL - 1,  ~0ULL};
    return below(4) == 0 ? random_() : odd[below(std::size(odd))];
  }

  template <typename Body>
  Bytes record(Op op, const Body& body) {
    proto::Writer writer(op, static_cast<std::uint32_t>(random_()),
                         static_cast<std::uint16_t>(below(4)));
    for (std::uint64_t i = 0, more = below(8) == 0 ? below(200) : 0; i <= more; ++i) {
      writer.add(body);
    }
    return writer.bytes();
  }

  proto::AttachBody attach_body() {
    Wanted wanted;
    wanted.timeout(1h).memory(1ULL << 40).ladder("CONT:1s,CONT").name("fuzz");
    wanted.body.flags = proto::kHasFd;
    wanted.body.scope = static_cast<std::uint32_t>(1 + below(4));
    proto::put_text(wanted.body.labels, "a=b\nc=d");
    return wanted.body;
  }

  Bytes valid(std::uint64_t guard) {
    proto::RefBody which;
    which.id = below(2) == 0 ? guard : 0;
    proto::put_text(which.name, "fuzz");
    proto::SetBody set;
    set.guard = which;
    set.limit[below(PG_RESOURCES)] = 1ULL << 50;
    switch (const auto op = static_cast<Op>(2 + below(14)); op) {
      case Op::kAttach:
        return record(op, attach_body());
      case Op::kStart:
        return record(op, proto::StartBody{.id = guard, .at_ns = odd_number()});
      case Op::kList:
        return record(op, proto::ListBody{.after = odd_number(), .ended = 1, .padding = 0});
      case Op::kSet:
        return record(op, set);
      case Op::kEvents:
        return record(op, proto::EventsBody{.since_seq = below(9), .since_real_ns = 0, .guard = 0});
      case Op::kSession:
        return record(op, proto::SessionBody{});
      case Op::kThresholds:
        return record(op, proto::ThresholdsBody{.bytes = {odd_number(), odd_number()}});
      case Op::kStatus: {
        proto::Writer writer(op, 1);
        return writer.bytes();
      }
      default:
        return record(op, which);
    }
  }

  void put(Bytes& record, std::size_t at, std::uint64_t value, std::size_t size) {
    if (at + size <= record.size()) {
      std::memcpy(record.data() + at, &value, size);
    }
  }

  void mutate(Bytes& record) {
    switch (below(10)) {
      case 0:  // some bytes, the header's too
        for (std::uint64_t i = 0, times = 1 + below(8); i < times && !record.empty(); ++i) {
          record[below(record.size())] = static_cast<std::byte>(random_());
        }
        break;
      case 1:
        record.resize(below(record.size() + 1));
        break;
      case 2:
        record.resize(std::min(kLongest, record.size() + below(below(2) == 0 ? 64 : kLongest)),
                      static_cast<std::byte>(random_()));
        break;
      case 3:
        put(record, offsetof(proto::Header, count), odd_number(), 4);
        break;
      case 4:
        put(record, offsetof(proto::Header, size), odd_number(), 4);
        break;
      case 5:
        put(record, offsetof(proto::Header, op), below(20), 2);
        break;
      case 6:
        put(record, offsetof(proto::Header, version), odd_number(), 4);
        break;
      default:  // a field of a body
        put(record, sizeof(proto::Header) + 4 * below(record.size() / 4 + 1), odd_number(),
            below(2) == 0 ? 4 : 8);
        break;
    }
  }

  std::mt19937_64 random_;
};

// Descriptors of all kinds, right ones and wrong ones.
class Descriptors {
 public:
  explicit Descriptors(const std::string& cgroup) {
    const auto memfd = [this](std::size_t size, bool sealed) {
      const int fd = ::memfd_create("page", MFD_CLOEXEC | MFD_ALLOW_SEALING);
      (void)!::ftruncate(fd, static_cast<off_t>(size));
      if (sealed) {
        ::fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW);
      }
      fds_.emplace_back(fd);
    };
    memfd(sizeof(proto::Page), true);
    memfd(sizeof(proto::Page), false);
    memfd(100, true);
    memfd(0, false);
    for (const char* path : {"/dev/null", "/", "/proc/self/status", cgroup.c_str()}) {
      fds_.emplace_back(::open(path, O_RDONLY | O_CLOEXEC));
    }
    fds_.emplace_back(::open("/", O_PATH | O_CLOEXEC));
    fds_.emplace_back(::eventfd(0, EFD_CLOEXEC));
    fds_.emplace_back(::epoll_create1(EPOLL_CLOEXEC));
    fds_.emplace_back(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    Sleeper dead;
    fds_.push_back(sys::open_pidfd(dead.pid()).value());
  }
  int any(Mutator& mutator) const { return fds_[mutator.below(fds_.size())].get(); }

 private:
  std::vector<sys::Fd> fds_;
};

std::size_t open_files(pid_t pid) {
  const std::filesystem::directory_iterator all("/proc/" + std::to_string(pid) + "/fd");
  return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

class AgentHostile : public AsUser {
 protected:
  void SetUp() override {
    AsUser::SetUp();
    victim_.emplace();
    pidfd_ = sys::open_pidfd(victim_->pid()).value();
  }

  // A root's number may name anybody on this machine: only ever the victim.
  void spare_others(Bytes& record) const {
    const auto message = proto::decode(record);
    if (!message || message->op() != Op::kAttach ||
        message->header.size != sizeof(proto::AttachBody)) {
      return;
    }
    const auto pid = static_cast<std::uint32_t>(victim_->pid());
    for (std::size_t i = 0; i < message->header.count; ++i) {
      std::byte* field = record.data() + sizeof(proto::Header) + i * sizeof(proto::AttachBody) +
                         offsetof(proto::AttachBody, pid);
      std::uint32_t named = 0;
      std::memcpy(&named, field, sizeof(named));
      if (named != 0) {
        std::memcpy(field, &pid, sizeof(pid));
      }
    }
  }

  // Now and then another connection, seldom root's; the one there was may have been closed.
  int connection(Mutator& mutator, std::size_t slot) {
    std::optional<proto::Client>& mine = connections_[slot];
    if (!mine || mutator.below(50) == 0) {
      mine.reset();
      auto made = connect_as(mutator.below(8) == 0 ? kUser : 0);
      EXPECT_TRUE(made.ok()) << (made.ok() ? "" : made.error().message());
      mine.emplace(std::move(made).value());
      ::fcntl(mine->fd(), F_SETFL, O_NONBLOCK);
    }
    return mine->fd();
  }

  // Reads what is there; false: the connection is over.
  static bool drain(int fd) {
    static std::vector<char> buffer(2 * proto::kMaxRecord);
    ssize_t size = 0;
    while ((size = ::recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT)) > 0) {
    }
    return size < 0 && errno == EAGAIN;
  }

  static bool send(int fd, const Bytes& record, const std::vector<int>& fds) {
    iovec part{.iov_base = const_cast<std::byte*>(record.data()), .iov_len = record.size()};
    std::vector<char> control(CMSG_SPACE(fds.size() * sizeof(int)));
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (!fds.empty()) {
      message.msg_control = control.data();
      message.msg_controllen = control.size();
      cmsghdr* rights = CMSG_FIRSTHDR(&message);
      rights->cmsg_level = SOL_SOCKET;
      rights->cmsg_type = SCM_RIGHTS;
      rights->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
      std::memcpy(CMSG_DATA(rights), fds.data(), fds.size() * sizeof(int));
    }
    return ::sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
  }

  std::vector<int> fds_for(Mutator& mutator, const Descriptors& descriptors) {
    const std::uint64_t kind = mutator.below(100);
    if (kind == 0) {
      return {pidfd_.get()};  // seldom: guards that are made are kept for an hour
    }
    std::vector<int> fds(kind < 50 ? 0 : kind < 95 ? 1 : kind < 99 ? kind - 93 : 200);
    for (int& fd : fds) {
      fd = descriptors.any(mutator);
    }
    return fds;
  }

  void storm(Mutator& mutator, const Descriptors& descriptors, std::uint64_t times) {
    for (std::uint64_t i = 0; i < times; ++i) {
      const std::size_t slot = mutator.below(std::size(connections_));
      const int fd = connection(mutator, slot);
      Bytes record = mutator.next(1 + mutator.below(16));
      spare_others(record);
      bool open = drain(fd);
      while (open && !send(fd, record, fds_for(mutator, descriptors))) {
        open = errno == EAGAIN && drain(fd);
      }
      if (!open) {
        connections_[slot].reset();
      }
    }
    for (auto& each : connections_) {
      each.reset();
    }
  }

  // What the agent holds once it has seen that all of them are gone.
  struct Held {
    std::size_t files;
    std::uint64_t rss;
  };
  Held held(std::size_t files) {
    wait_until([&] { return open_files(agent_->pid()) <= files; }, 20s);
    return {open_files(agent_->pid()), sys::ProcRoot().rss_bytes(agent_->pid()).value()};
  }

  std::optional<Sleeper> victim_;
  sys::Fd pidfd_;
  std::optional<proto::Client> connections_[6];
};

TEST_F(AgentHostile, MutatedMessages) {
  const std::uint64_t times = number_from("PROCGUARD_TEST_MUTATIONS", 30000);
  const std::uint64_t seed = number_from("PROCGUARD_TEST_SEED", std::random_device()());
  SCOPED_TRACE("PROCGUARD_TEST_SEED=" + std::to_string(seed));
  const Sleeper bystander;
  const TestCgroup cgroup;
  const Descriptors descriptors(cgroup.path());
  Mutator mutator(seed);
  ASSERT_NE(attach(process_guard().timeout(1h).name("fuzz"), victim_->pid()), 0U);
  const std::size_t files = open_files(agent_->pid()) + kLinks;
  storm(mutator, descriptors, times / 4);
  const Held warm = held(files);
  storm(mutator, descriptors, times - times / 4);
  const Held end = held(files);
  std::printf("held: %zu files, %lu KiB; at the end %zu, %lu KiB\n", warm.files, warm.rss >> 10,
              end.files, end.rss >> 10);
  EXPECT_LE(end.files, files);
  EXPECT_LT(end.rss, warm.rss + (16ULL << 20)) << warm.rss;

  EXPECT_TRUE(bystander.alive());
  Sleeper target;
  const std::uint64_t id = attach(process_guard().timeout(100ms), target.pid());
  EXPECT_EQ(target.wait(), SIGKILL) << "the agent still guards";
  EXPECT_TRUE(event(id, PG_EVENT_STEP));
}

}  // namespace
}  // namespace procguard::test
