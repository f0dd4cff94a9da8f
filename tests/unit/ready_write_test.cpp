// SPDX-License-Identifier: Apache-2.0
#include "sys/ready_write.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <climits>
#include <string>

#include "sys/fd.h"

namespace procguard::test {
namespace {

class ReadyWrite : public ::testing::Test {
 protected:
  ReadyWrite() {
    int fds[2] = {-1, -1};
    EXPECT_EQ(::pipe2(fds, O_CLOEXEC), 0);  // one that waits
    reader_ = sys::Fd(fds[0]);
    writer_ = sys::Fd(fds[1]);
  }
  std::string read() const {
    std::string text(2 * PIPE_BUF, '\0');
    const ssize_t got = ::read(reader_.get(), text.data(), text.size());
    text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return text;
  }

  sys::Fd reader_;
  sys::Fd writer_;
};

TEST_F(ReadyWrite, ALineThatFits) {
  EXPECT_TRUE(sys::write_if_ready(writer_.get(), "a line\n"));
  EXPECT_EQ(read(), "a line\n");
}

TEST_F(ReadyWrite, ALineThatIsLongIsCutOff) {
  EXPECT_TRUE(sys::write_if_ready(writer_.get(), std::string(PIPE_BUF + 1, 'x')));
  EXPECT_EQ(read(), std::string(PIPE_BUF, 'x'));
}

TEST_F(ReadyWrite, AFullPipeHoldsNobodyUp) {
  const std::string line(PIPE_BUF, 'x');
  int written = 0;
  while (written < 10'000 && sys::write_if_ready(writer_.get(), line)) {
    ++written;
  }
  EXPECT_GT(written, 0);
  EXPECT_LT(written, 10'000);
  EXPECT_EQ(read().size(), 2 * line.size());
  EXPECT_TRUE(sys::write_if_ready(writer_.get(), line));
}

TEST_F(ReadyWrite, NobodyReadsAnyMore) {
  const auto before = ::signal(SIGPIPE, SIG_IGN);
  reader_.reset();
  EXPECT_FALSE(sys::write_if_ready(writer_.get(), "a line\n"));
  EXPECT_FALSE(sys::write_if_ready(-1, "a line\n"));
  ::signal(SIGPIPE, before);
}

}  // namespace
}  // namespace procguard::test
