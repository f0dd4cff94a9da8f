// SPDX-License-Identifier: Apache-2.0
#include "cli/terminal.h"

#include <unistd.h>

namespace procguard::cli {

Terminal::Terminal()
    : own_group_(::getpgrp()),
      leads_(::isatty(STDIN_FILENO) == 1 && ::tcgetpgrp(STDIN_FILENO) == own_group_) {}

void Terminal::give(pid_t group) {
  if (leads_ && ::tcgetpgrp(STDIN_FILENO) == own_group_) {
    ::tcsetpgrp(STDIN_FILENO, group);
    given_ = true;
  }
}

void Terminal::take_back() {
  if (given_) {
    ::tcsetpgrp(STDIN_FILENO, own_group_);
    given_ = false;
  }
}

}  // namespace procguard::cli
