// SPDX-License-Identifier: Apache-2.0
#include "client/own_rss.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <string_view>

#include "sys/fd.h"
#include "sys/procfs_parse.h"

namespace procguard::client {
namespace {

constexpr const char* kPath = "/proc/thread-self/statm";

sys::Fd open_now() {
  return sys::Fd(::open(kPath, O_RDONLY | O_CLOEXEC));
}

Result<std::uint64_t> read_from(int fd) {
  std::array<char, 256> text;
  const ssize_t got = ::pread(fd, text.data(), text.size(), 0);
  if (got < 0) {
    return Error::system(std::string("reading ") + kPath, errno);
  }
  const auto statm = sys::parse_statm(std::string_view(text.data(), static_cast<std::size_t>(got)));
  if (!statm || statm->resident == 0) {  // whoever reads has memory
    return Error(std::string(kPath) + ": not understood", EPROTO);
  }
  // Asked each time: a child forked while another thread is inside a static's initialisation would
  // wait for it without end.
  return statm->resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace

void OwnRss::open() {
  if (fd_.load(std::memory_order_relaxed) < 0) {
    fd_.store(open_now().release());
  }
}

Result<std::uint64_t> OwnRss::read() const {
  if (const int fd = fd_.load(); fd >= 0) {
    if (auto bytes = read_from(fd)) {
      return bytes;
    }
    // A program that closes all files it does not know may have this number for another.
  }
  const sys::Fd once = open_now();
  if (!once) {
    return Error::system(std::string("opening ") + kPath, errno);
  }
  return read_from(once.get());
}

void OwnRss::abandon() {
  if (const int fd = fd_.exchange(-1); fd >= 0) {
    ::close(fd);
  }
}

}  // namespace procguard::client
