// SPDX-License-Identifier: Apache-2.0
// A descriptor whose last close(2) takes its time: a TCP socket with data that nobody reads, which
// lingers.
#pragma once

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstddef>
#include <utility>
#include <vector>

#include "sys/fd.h"

namespace procguard::test {

class LingeringSocket {
 public:
  explicit LingeringSocket(int seconds) {
    const sys::Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address);
    auto* const plain = reinterpret_cast<sockaddr*>(&address);
    const int small = 4096;
    EXPECT_EQ(::setsockopt(listener.get(), SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
    EXPECT_EQ(::bind(listener.get(), plain, sizeof(address)), 0);
    EXPECT_EQ(::listen(listener.get(), 1), 0);
    EXPECT_EQ(::getsockname(listener.get(), plain, &length), 0);
    socket_ = sys::Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::setsockopt(socket_.get(), SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
    EXPECT_EQ(::connect(socket_.get(), plain, sizeof(address)), 0);
    peer_ = sys::Fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    const std::vector<char> data(std::size_t{64} * 1024);
    while (::send(socket_.get(), data.data(), data.size(), MSG_DONTWAIT | MSG_NOSIGNAL) > 0) {
    }
    const linger how{.l_onoff = 1, .l_linger = seconds};
    EXPECT_EQ(::setsockopt(socket_.get(), SOL_SOCKET, SO_LINGER, &how, sizeof(how)), 0);
  }

  int fd() const { return socket_.get(); }
  sys::Fd take() { return std::move(socket_); }
  // Somebody else has a copy, and his is the last.
  void leave() { socket_.reset(); }

 private:
  sys::Fd socket_;
  sys::Fd peer_;
};

}  // namespace procguard::test
