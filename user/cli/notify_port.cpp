// SPDX-License-Identifier: Apache-2.0
#include "cli/notify_port.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "cli/poll_fd.h"
#include "core/clock.h"

namespace procguard::cli {
namespace {

constexpr std::size_t kMaxDatagram = 4096;  // as the service manager has it
constexpr std::size_t kMaxFds = 253;        // the kernel's SCM_MAX_FD
constexpr core::Ns kHearingPatience = 5 * core::kSecond;
constexpr int kAtOnce = 64;  // datagrams, before others have their turn

// A datagram and who sent it. The descriptors are held until it has been dealt with: a sender may
// wait until they are closed, and only while it waits is it known to be a member.
struct Datagram {
  std::string text;
  ucred sender{};
  std::vector<sys::Fd> fds;
  bool whole = false;
};

void take_control(msghdr& message, Datagram& datagram) {
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr;
       part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET) {
      continue;
    }
    if (part->cmsg_type == SCM_CREDENTIALS) {
      std::memcpy(&datagram.sender, CMSG_DATA(part), sizeof(ucred));
    } else if (part->cmsg_type == SCM_RIGHTS) {
      const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (std::size_t i = 0; i < count; ++i) {
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
        datagram.fds.emplace_back(fd);
      }
    }
  }
}

std::optional<Datagram> receive(int socket) {
  char text[kMaxDatagram];
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(ucred)) + CMSG_SPACE(kMaxFds * sizeof(int))];
  iovec part{.iov_base = text, .iov_len = sizeof(text)};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  const ssize_t bytes = ::recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (bytes < 0) {
    return std::nullopt;
  }
  Datagram datagram;
  take_control(message, datagram);
  datagram.text.assign(text, static_cast<std::size_t>(bytes));
  datagram.whole = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0;
  return datagram;
}

// 0: it names none.
socklen_t address_of(const std::string& name, sockaddr_un& address) {
  address.sun_family = AF_UNIX;
  if (name.size() < 2 || name.size() >= sizeof(address.sun_path) ||
      (name[0] != '@' && name[0] != '/')) {
    return 0;
  }
  std::memcpy(address.sun_path, name.data(), name.size());
  const bool path = name[0] == '/';
  address.sun_path[0] = path ? '/' : '\0';
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size() + (path ? 1 : 0));
}

// False: errno says why.
bool send_notice(int socket, const std::string& to, const std::string& text,
                 const std::vector<sys::Fd>& fds) {
  sockaddr_un address{};
  iovec part{.iov_base = const_cast<char*>(text.data()), .iov_len = text.size()};
  msghdr message{};
  message.msg_name = &address;
  message.msg_namelen = address_of(to, address);
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxFds * sizeof(int))] = {};
  if (message.msg_namelen == 0) {
    errno = EINVAL;
    return false;
  }
  if (!fds.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    for (std::size_t i = 0; i < fds.size(); ++i) {
      const int fd = fds[i].get();
      std::memcpy(CMSG_DATA(rights) + i * sizeof(int), &fd, sizeof(int));
    }
  }
  return ::sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

}  // namespace

Result<void> notify_progress(const std::string& address) {
  const sys::Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  int ends[2];
  if (!socket || ::pipe2(ends, O_CLOEXEC) != 0) {
    return Error::system("making a socket and a pipe", errno);
  }
  const sys::Fd heard(ends[0]);
  std::vector<sys::Fd> held;
  held.emplace_back(ends[1]);
  if (!send_notice(socket.get(), address, "WATCHDOG=1", held)) {
    return Error::system("telling " + address, errno);
  }
  held.clear();  // closed there as well once it has been dealt with
  if (!readable(heard.get(), kHearingPatience)) {
    return Error("whoever listens at " + address + " does not hear", EAGAIN);
  }
  return {};
}

Notice read_notice(std::string_view datagram) {
  Notice notice;
  while (!datagram.empty()) {
    const std::size_t end = std::min(datagram.find('\n'), datagram.size());
    const std::string_view line = datagram.substr(0, end);
    datagram.remove_prefix(std::min(end + 1, datagram.size()));
    if (line == "WATCHDOG=1") {
      notice.progress = true;
    } else if (!line.starts_with("WATCHDOG=") && !line.starts_with("WATCHDOG_USEC=") &&
               !line.empty()) {
      notice.rest += std::string(notice.rest.empty() ? "" : "\n") + std::string(line);
    }
  }
  return notice;
}

// In the abstract namespace, under a name that the kernel chooses: there is nothing to clean up,
// and a command that changes its root or its user finds it as well.
Result<NotifyPort> NotifyPort::open(std::string manager) {
  sys::Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) {
    return Error::system("making a unix socket", errno);
  }
  const int on = 1;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  socklen_t length = sizeof(address);
  auto* raw = reinterpret_cast<sockaddr*>(&address);
  if (::setsockopt(socket.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) != 0 ||
      ::bind(socket.get(), raw, sizeof(sa_family_t)) != 0 ||
      ::getsockname(socket.get(), raw, &length) != 0) {
    return Error::system("binding a unix socket", errno);
  }
  const std::size_t name = length - offsetof(sockaddr_un, sun_path);
  return NotifyPort(std::move(socket), "@" + std::string(address.sun_path + 1, name - 1),
                    std::move(manager));
}

bool NotifyPort::take(const IsMember& is_member) {
  bool progress = false;
  for (int i = 0; i < kAtOnce; ++i) {
    const auto datagram = receive(socket_.get());
    if (!datagram) {
      break;
    }
    if (!datagram->whole || !is_member(datagram->sender.pid, datagram->sender.uid)) {
      continue;
    }
    const Notice notice = read_notice(datagram->text);
    progress = progress || notice.progress;
    if (!notice.rest.empty()) {
      pass_on(notice.rest, datagram->fds);
    }
  }
  return progress;
}

// What the manager has no room for is lost: nobody here may wait.
void NotifyPort::pass_on(const std::string& text, const std::vector<sys::Fd>& fds) const {
  send_notice(socket_.get(), manager_, text, fds);
}

}  // namespace procguard::cli
