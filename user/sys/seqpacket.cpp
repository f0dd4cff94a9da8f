// SPDX-License-Identifier: Apache-2.0
#include "sys/seqpacket.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

namespace procguard::sys {
namespace {

constexpr int kBacklog = 128;
constexpr int kPeerPidfd = 77;         // SO_PEERPIDFD, which older headers do not have
constexpr std::size_t kMostFds = 253;  // the kernel's SCM_MAX_FD

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return Error("socket path '" + path + "': expected 1 to " +
                     std::to_string(sizeof(address.sun_path) - 1) + " bytes",
                 ENAMETOOLONG);
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

Result<Fd> make_socket(int flags) {
  Fd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0));
  if (!fd) {
    return Error::system("making a unix socket", errno);
  }
  return fd;
}

bool somebody_listens(const sockaddr_un& address) {
  const auto probe = make_socket(SOCK_NONBLOCK);
  return !probe ||
         ::connect(probe.value().get(), reinterpret_cast<const sockaddr*>(&address),
                   sizeof(address)) == 0 ||
         (errno != ECONNREFUSED && errno != ENOENT);
}

Result<void> set_patience(int fd, core::Ns patience) {
  const timeval time{
      .tv_sec = static_cast<time_t>(patience / core::kSecond),
      .tv_usec = static_cast<suseconds_t>(patience % core::kSecond / core::kMicrosecond)};
  for (const int option : {SO_RCVTIMEO, SO_SNDTIMEO}) {
    if (::setsockopt(fd, SOL_SOCKET, option, &time, sizeof(time)) != 0) {
      return Error::system("setsockopt", errno);
    }
  }
  return {};
}

Result<SeqPacket> connected(Fd fd, const std::string& path) {
  const auto address = address_of(path);
  if (!address) {
    return address.error();
  }
  while (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address.value()),
                   sizeof(sockaddr_un)) != 0) {
    if (errno != EINTR) {
      return Error::system("connecting to " + path, errno);
    }
  }
  return SeqPacket(std::move(fd));
}

// True: the record says who sent it.
bool take_parts(msghdr& message, std::vector<Fd>& fds) {
  bool told = false;
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr;
       part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) {
      told = told || (part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_CREDENTIALS);
      continue;
    }
    const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
      fds.emplace_back(fd);
    }
  }
  return told;
}

}  // namespace

Result<SeqPacket> SeqPacket::listen(const std::string& path) {
  auto address = address_of(path);
  if (!address) {
    return address.error();
  }
  auto fd = make_socket(SOCK_NONBLOCK);
  if (!fd) {
    return fd.error();
  }
  struct stat about {};
  if (::lstat(path.c_str(), &about) == 0) {
    if (!S_ISSOCK(about.st_mode)) {
      return Error("socket " + path + ": something else is there", EEXIST);
    }
    if (somebody_listens(address.value())) {
      return Error("socket " + path + ": somebody listens there already", EADDRINUSE);
    }
    ::unlink(path.c_str());
  }
  const mode_t before = ::umask(0177);
  const int bound = ::bind(fd.value().get(), reinterpret_cast<const sockaddr*>(&address.value()),
                           sizeof(sockaddr_un));
  const int code = errno;
  ::umask(before);
  if (bound != 0) {
    return Error::system("binding " + path, code);
  }
  // Accepted sockets inherit it: a record without bytes says who sent it, the end of all does not.
  const int on = 1;
  if (::setsockopt(fd.value().get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) != 0) {
    return Error::system("asking for the senders of records", errno);
  }
  if (::listen(fd.value().get(), kBacklog) != 0) {
    return Error::system("listening at " + path, errno);
  }
  return SeqPacket(std::move(fd).value());
}

Result<SeqPacket> SeqPacket::connect(const std::string& path, bool waits) {
  auto fd = make_socket(waits ? 0 : SOCK_NONBLOCK);
  return fd ? connected(std::move(fd).value(), path) : fd.error();
}

Result<SeqPacket> SeqPacket::connect_within(const std::string& path, core::Ns patience) {
  auto fd = make_socket(0);
  if (!fd) {
    return fd.error();
  }
  // connect(2) waits by the time-out for sending while the listener's queue is full.
  if (auto set = set_patience(fd->get(), patience); !set) {
    return set.error();
  }
  return connected(std::move(fd).value(), path);
}

Result<void> SeqPacket::wait_at_most(core::Ns patience) const {
  return set_patience(fd_.get(), patience);
}

Result<Peer> SeqPacket::peer() const {
  ucred credentials{};
  socklen_t length = sizeof(credentials);
  if (::getsockopt(fd_.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) {
    return Error::system("asking who is at the other end", errno);
  }
  return Peer{.pid = credentials.pid, .uid = credentials.uid, .gid = credentials.gid};
}

Result<Fd> SeqPacket::peer_pidfd() const {
  int fd = -1;
  socklen_t length = sizeof(fd);
  if (::getsockopt(fd_.get(), SOL_SOCKET, kPeerPidfd, &fd, &length) != 0) {
    return Error::system("asking for the process at the other end", errno);
  }
  return Fd(fd);
}

Result<std::optional<SeqPacket>> SeqPacket::accept() const {
  for (;;) {
    Fd fd(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (fd) {
      return std::optional<SeqPacket>(SeqPacket(std::move(fd)));
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK) {
      return std::optional<SeqPacket>();
    }
    if (errno != EINTR && errno != ECONNABORTED) {
      return Error::system("accepting a connection", errno);
    }
  }
}

Result<void> SeqPacket::send(std::span<const std::byte> record, std::span<const int> fds) const {
  iovec part{.iov_base = const_cast<std::byte*>(record.data()), .iov_len = record.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(kMostFds * sizeof(int))];
  if (fds.size() > kMostFds) {
    return Error("sending " + std::to_string(fds.size()) + " descriptors at once", EINVAL);
  }
  if (!fds.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(rights), fds.data(), fds.size_bytes());
  }
  while (::sendmsg(fd_.get(), &message, MSG_NOSIGNAL) < 0) {
    if (errno != EINTR) {
      return Error::system("sending a record", errno);
    }
  }
  return {};
}

Result<SeqPacket::Received> SeqPacket::receive(std::span<std::byte> buffer,
                                               std::size_t max_fds) const {
  iovec part{.iov_base = buffer.data(), .iov_len = buffer.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(ucred)) + CMSG_SPACE(kMostFds * sizeof(int))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  ssize_t bytes = 0;
  while ((bytes = ::recvmsg(fd_.get(), &message, MSG_CMSG_CLOEXEC)) < 0) {
    if (errno != EINTR) {
      return Error::system("receiving a record", errno);
    }
  }
  Received received;
  received.bytes = static_cast<std::size_t>(bytes);
  received.closed = !take_parts(message, received.fds) && bytes == 0;
  received.truncated =
      (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 || received.fds.size() > max_fds;
  return received;
}

void SeqPacket::shut_down() const {
  ::shutdown(fd_.get(), SHUT_RDWR);
}

}  // namespace procguard::sys
